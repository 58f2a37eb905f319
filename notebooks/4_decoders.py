# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Decoders and beams: what a better search costs
# Cases of one run that share model and acoustic variant and differ in how its output is searched. A wider beam or a
# language model buys words for time; this notebook shows the exchange rate. `AMIRA_RUN` names another run.

# %%
import os
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np

from harness.report.figures.front import efficient
from harness.report.sections.decoders import trade_off
from harness.store import find_run, open_run
from harness.summary import summarise

run = open_run(find_run(os.environ.get("AMIRA_RUN", "decoders")))
cases = trade_off(run, summarise(run))
corpora = list(dict.fromkeys(name for case in cases for name in case["wer"]))
if not cases:
    raise SystemExit(f"run '{run.manifest.run}' has no two decoders of one model")
for case in cases:
    rates = ", ".join(f"{name} {rate['value']:.1%}" for name, rate in case["wer"].items())
    print(f"{case['id']}: {case['rtf']:.3f} ms of decoding for a second of audio; WER {rates}")

# %% [markdown]
# ## Words for time
# Left and low is better. The line joins the decoders that no other beats in both. Bars are 95 % intervals: of decoding
# time over utterances, of the word error rate over speakers.

# %%
markers = {case["id"]: marker for case, marker in zip(cases, cycle("os^vDP*Xph<>"), strict=False)}
columns = min(2, len(corpora))
lines = -(-len(corpora) // columns)
figure, grid = plt.subplots(lines, columns, figsize=(6 * columns, 4 * lines), layout="constrained", squeeze=False)
figure.suptitle(f"Word error rate against decoding time, run {run.manifest.run}")
for axes, corpus in zip(grid.flat, corpora, strict=False):
    for case in cases:
        rate, spent = case["wer"][corpus], case["rtf_interval"]
        ends = [[case["rtf"] - spent["low"]], [spent["high"] - case["rtf"]]]
        spread = None if rate["low"] is None else [[rate["value"] - rate["low"]], [rate["high"] - rate["value"]]]
        y_ends = spread and 100 * np.array(spread)
        axes.errorbar(
            case["rtf"], 100 * rate["value"], xerr=ends, yerr=y_ends, fmt=markers[case["id"]], label=case["id"]
        )
    front = efficient(cases, corpus)
    axes.plot([case["rtf"] for case in front], [100 * case["wer"][corpus]["value"] for case in front], alpha=0.5)
    axes.set(xscale="log", title=corpus, xlabel="ms of decoding for a second of audio", ylabel="word error rate, %")
handles, labels = grid.flat[0].get_legend_handles_labels()
figure.legend(handles, labels, loc="outside right upper", fontsize="small")
for axes in list(grid.flat)[len(corpora) :]:
    axes.remove()

# %% [markdown]
# ## Does it matter to the whole request?
# A decoder that takes a small share of a request may be slow and still be free.

# %%
figure, axes = plt.subplots(figsize=(7, 0.4 * len(cases) + 1.2), layout="constrained")
axes.barh([case["id"] for case in cases], [100 * case["share"] for case in cases])
axes.invert_yaxis()
axes.set(xlabel="decoding, % of the time of a request", ylabel="case", title="Share of decoding in a request")

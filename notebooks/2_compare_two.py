# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Compare two cases
# Two cases of one run were measured interleaved, so their samples pair by repeat and utterance. `AMIRA_RUN` names the
# run, `AMIRA_CASES` the two cases (`a,b`); by default the last two that were measured.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np

from harness import stats
from harness.measured import measured_cases, table
from harness.store import find_run, open_run

run = open_run(find_run(os.environ.get("AMIRA_RUN", "default")))
cases = measured_cases(run)
names = os.environ["AMIRA_CASES"].split(",") if "AMIRA_CASES" in os.environ else list(cases)[-2:]
before, after = (table(run, cases[name].steady, lambda row: row.latency_ns / 1e6) for name in names)
ratio = stats.paired_ratio(before, after)
print(f"{names[1]} is {ratio.value:.3f} times as fast as {names[0]} ({ratio.low:.3f} to {ratio.high:.3f})")

# %% [markdown]
# ## The gain of each utterance
# Each dot is an utterance in one repeat. A band that does not touch 1 is a difference; one that is wide needs repeats.

# %%
gains = before / after
figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
order = np.argsort(np.nanmean(gains, axis=0))
for repeat in gains:
    axes.plot(repeat[order], ".", alpha=0.6)
axes.axhspan(ratio.low, ratio.high, alpha=0.2, label="95 % interval of the mean")
axes.axhline(1, linewidth=1, linestyle="--")
axes.set(xlabel="utterance, by gain", ylabel="baseline over candidate", title=f"{names[1]} against {names[0]}")
axes.legend(fontsize="small")

# %% [markdown]
# ## How many repeats would a smaller effect need?

# %%
per_repeat = np.nanmean(np.log(gains), axis=1)
deviation = float(per_repeat.std(ddof=1)) if len(per_repeat) > 1 else float("nan")
for effect in (0.01, 0.02, 0.05, 0.10):
    wanted = stats.required_repeats(deviation, effect) if np.isfinite(deviation) else None
    print(f"to see {effect:.0%}: {wanted or 'unknown'} repeats")

# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Load and the tail
# A load run streams real speech at the pace of the clock, whatever the server does. Latency runs from when the audio of
# a word had been spoken; a clock that starts at the send forgives a server that makes its clients wait (coordinated
# omission). `AMIRA_LOAD` names another run of `amira load`.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np

from harness import stats
from harness.load.run import find_load
from harness.load.summary import latencies_ms, summarise

folder = find_load(os.environ.get("AMIRA_LOAD", "server-load"))
summary = summarise(folder)
steps = summary["steps"]
for step in steps:
    partial = step["latency_ms"]["partial"]
    print(f"{step['streams']} streams: p50 {partial['p50']} ms, p99 {partial['p99']} ms, lost {step['lost_ms']} ms")

# %% [markdown]
# ## Every percentile of the partials
# Each further nine takes as much room as the last, so that the tail is seen.

# %%
samples = [latencies_ms(folder, place)["partial"].dropna().to_numpy() for place in range(len(steps))]
figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
for step, values in zip(steps, samples, strict=True):
    ordered = np.sort(values)
    share = (np.arange(ordered.size) + 0.5) / max(ordered.size, 1)
    axes.plot(-np.log10(1 - share), ordered, label=f"{step['streams']} streams, n = {ordered.size}")
ticks = (0.5, 0.9, 0.99, 0.999)
axes.set_xticks([-np.log10(1 - tick) for tick in ticks], [f"p{100 * tick:g}" for tick in ticks])
axes.set(xlabel="percentile", ylabel="latency from due time, ms", yscale="log", title="Partials under load")
axes.legend(fontsize="small")

# %% [markdown]
# ## How sure is the tail?
# A percentile from few samples is a guess. The interval is distribution-free, from order statistics; a question mark
# says that there are too few samples to bound it from above.

# %%
figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
for place, values in enumerate(samples):
    for shift, quantile in enumerate((0.5, 0.9, 0.99)):
        if not values.size:
            continue
        found = stats.quantile_interval(values, quantile)
        x, colour = place + 0.12 * (shift - 1), f"C{shift}"
        top = found.high if np.isfinite(found.high) else values.max()
        axes.plot([x, x], [found.low, top], color=colour)
        axes.plot(x, found.value, "o", color=colour, label=f"p{100 * quantile:g}" if place == 0 else None)
        if not np.isfinite(found.high):
            axes.annotate("?", (x, top), ha="center", va="bottom", color=colour)
axes.set_xticks(range(len(steps)), [str(step["streams"]) for step in steps])
axes.set(xlabel="streams at once", ylabel="latency from due time, ms", yscale="log", title="Percentiles with intervals")
axes.legend()

# %% [markdown]
# ## What a stream costs the server
# Processor time for a second of audio says how many streams a core could take if nothing else were in the way.

# %%
figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
known = [step for step in steps if step["server"]["cpu_s_per_audio_s"] is not None]
axes.plot([step["streams"] for step in known], [step["server"]["cpu_s_per_audio_s"] for step in known], "o-")
axes.set(xlabel="streams at once", ylabel="CPU seconds for a second of audio", title="Cost of a stream")
axes.set_ylim(bottom=0)

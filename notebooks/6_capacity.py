# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # How many machines for so many streams
# From the measured rounds of one core (`experiments/031-capacity`), by the model in `harness/capacity.py`. Set the goal
# and the load that you dare; for a GPU put in the rounds that `make gpu` measures there: none has been measured yet.

# %%
import json
import math

import matplotlib.pyplot as plt

from harness.capacity import Rounds, round_latency, streams_within
from pipelines.paths import home

GOAL_S, HEADROOM = 0.3, 0.7  # at the 99th percentile; share of the streams that a core could just hold
result = json.loads((home() / "experiments" / "031-capacity" / "result.json").read_text())
first = result["loads"][0]
rounds = Rounds(first["fixed_s"], first["chunk_s"], first["spread"])
period_s = result["period_s"]

# %% [markdown]
# ## What the model said and what was measured

# %%
for row in result["loads"]:
    told, found = (1e3 * row[key][-1] for key in ("predicted_s", "measured_s"))
    print(f"{row['streams']} streams on a core: p99 {told:.0f} ms predicted, {found:.0f} ms measured")

# %%
most = streams_within(rounds, period_s, GOAL_S)
shown = sorted({max(1, round(most * share / 12)) for share in range(1, 13)})
figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
axes.plot(shown, [1e3 * round_latency(rounds, streams, period_s, 0.99) for streams in shown], label="predicted")
axes.plot(
    [row["streams"] for row in result["loads"]],
    [1e3 * row["measured_s"][-1] for row in result["loads"]],
    "o",
    label="measured",
)
axes.axhline(1e3 * GOAL_S, linestyle="--", linewidth=1, label="goal")
axes.set(
    title="Latency by load", xlabel="streams on one core", ylabel="p99 from due chunk to its text, ms", yscale="log"
)
axes.legend()

# %% [markdown]
# ## A thousand, ten thousand, a million
# Every stream speaks all the time, which none does: divide by the share of time in which yours speak. What the network
# and the second pass cost comes on top.

# %%
each = max(math.floor(most * HEADROOM), 1)
print(f"{result['model']}, {result['acoustic']}: {each} streams a core, p99 within {1e3 * GOAL_S:.0f} ms")
for streams in (1_000, 10_000, 1_000_000):
    print(f"{streams:>9,} streams: {math.ceil(streams / each):>7,} cores")

# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # The ladder
# What each change gained over the rung below, and which stage it came from. `AMIRA_RUN` names the run.

# %%
import os

import matplotlib.pyplot as plt

from harness.store import find_run, open_run
from harness.summary import summarise

summary = summarise(open_run(find_run(os.environ.get("AMIRA_RUN", "default"))))
rungs = [rung for rung in summary["rungs"] if rung["ratio"] is not None]

# %%
figure, axes = plt.subplots(figsize=(7, 0.45 * len(rungs) + 1), layout="constrained")
for place, rung in enumerate(rungs):
    axes.plot([rung["low"], rung["high"]], [place, place], linewidth=3)
    axes.plot(rung["ratio"], place, "o")
axes.set_yticks(range(len(rungs)), [rung["title"] for rung in rungs])
axes.axvline(1, linewidth=1, linestyle="--")
axes.set(xscale="log", xlabel="times as fast as the rung below, 95 % interval", title=summary["title"])

# %% [markdown]
# ## Which stages changed
# Amdahl's law: a stage that takes little of a request cannot gain much of it, however fast it becomes.

# %%
for rung in rungs:
    attribution = rung["attribution"]
    changed = ", ".join(attribution["changed"]) if attribution and attribution["changed"] else "no stage"
    print(f"{rung['title']}: {rung['verdict']}, {changed}")

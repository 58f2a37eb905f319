# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # A first look at a run
# Nothing is measured here: a stored run is read, and its samples are drawn. `AMIRA_RUN` names another run.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np

from harness.measured import measured_cases
from harness.store import find_run, open_run
from harness.summary import summarise

run = open_run(find_run(os.environ.get("AMIRA_RUN", "default")))
summary = summarise(run)
print(summary["title"], "-", summary["run"])

# %% [markdown]
# ## What each case took, utterance by utterance
# A straight line means that time grows with the length of the clip.

# %%
figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
for name, case in measured_cases(run).items():
    seconds = [run.utterances[row.utterance].duration_s for row in case.steady.values()]
    latency = [row.latency_ns / 1e6 for row in case.steady.values()]
    axes.plot(seconds, latency, ".", label=name, alpha=0.6)
axes.set(xlabel="length of the clip, s", ylabel="latency, ms", yscale="log", title="Latency by length of the clip")
axes.legend(fontsize="small")

# %% [markdown]
# ## Where the time goes

# %%
measured = [case for case in summary["cases"] if case["status"] == "ok"]
stages = list(dict.fromkeys(stage for case in measured for stage in case["stages_ms"]))
figure, axes = plt.subplots(figsize=(7, 0.5 * len(measured) + 1), layout="constrained")
left = np.zeros(len(measured))
for stage in stages:
    widths = np.array([case["stages_ms"].get(stage, 0.0) for case in measured])
    axes.barh([case["title"] for case in measured], widths, left=left, label=stage)
    left += widths
axes.set(xlabel="median of the stage, ms", title="Stages of a request")
axes.invert_yaxis()
axes.legend(fontsize="small")

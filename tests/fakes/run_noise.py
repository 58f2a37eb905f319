"""A run as a process of its own: `python -m tests.fakes.run_noise PLAN CORPUS MODELS RUNS [RESUME]`.

With `EXECUTOR=ray` in the environment it runs on Ray: on the cluster `RAY_CLUSTER`, or one of its own.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from harness.corpus import load_corpus
from harness.executor import Executor, LocalExecutor
from harness.executor_ray import RayExecutor
from harness.plan import load_plan
from harness.progress import reporter
from harness.runner import run_plan


def main() -> None:
    plan, corpus, models, runs, *resume = sys.argv[1:]
    on_ray = os.environ.get("EXECUTOR") == "ray"
    executor: Executor = RayExecutor(os.environ.get("RAY_CLUSTER"), shard_s=0.2) if on_ray else LocalExecutor()
    outcome = run_plan(
        load_plan(plan),
        corpus=load_corpus(corpus),
        models_dir=Path(models),
        runs_dir=Path(runs),
        reporter=reporter(),
        resume=Path(resume[0]) if resume else None,
        executor=executor,
    )
    print(outcome.status)


if __name__ == "__main__":
    main()

"""A run as a process of its own: `python -m tests.fakes.run_noise PLAN CORPUS MODELS RUNS [RESUME]`."""

from __future__ import annotations

import sys
from pathlib import Path

from harness.corpus import load_corpus
from harness.plan import load_plan
from harness.progress import reporter
from harness.runner import run_plan


def main() -> None:
    plan, corpus, models, runs, *resume = sys.argv[1:]
    outcome = run_plan(
        load_plan(plan),
        corpus=load_corpus(corpus),
        models_dir=Path(models),
        runs_dir=Path(runs),
        reporter=reporter(),
        resume=Path(resume[0]) if resume else None,
    )
    print(outcome.status)


if __name__ == "__main__":
    main()

"""`amira bench`: run a plan."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from harness.output import Json, print_json, say


def bench(
    plan: Annotated[
        str,
        typer.Argument(metavar="PLAN", help="A TOML file, a folder with a plan.toml, or a name under experiments/."),
    ],
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with an interrupted run (a folder, or 'latest').")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Keep the run as reports/NAME, too, and write the documents' tables."),
    ] = None,
    json: Json = False,
) -> None:
    """Measure every case of a plan and write a report.

    Each case runs in fresh processes, interleaved over the repeats. A case that cannot run here, crashes or hangs is
    a row with its reason, and the rest goes on. Ctrl-C keeps what was measured: report it, or go on with --resume.

    Examples:  amira bench default    amira bench my-plan.toml    amira bench default --resume latest
    amira bench 006-ledger --store ledger
    """
    from harness.corpus import load_corpus
    from harness.plan import find_plan, load_plan
    from harness.progress import reporter
    from harness.report import write_report
    from harness.runner import run_plan
    from harness.store import find_run, open_run
    from harness.summary import summarise
    from pipelines.models.locate import check_model
    from pipelines.paths import models_dir, runs_dir

    loaded = load_plan(find_plan(plan))
    for model in loaded.models:
        check_model(models_dir(), model)
    outcome = run_plan(
        loaded,
        corpus=load_corpus(loaded.corpus_location),
        models_dir=models_dir(),
        runs_dir=runs_dir(),
        reporter=reporter(),
        resume=find_run(resume) if resume else None,
    )
    run = open_run(outcome.path)
    paths = write_report(run)
    say(f"report: {paths.html}")
    if json:
        print_json(summarise(run))
    if outcome.status == "interrupted":
        say(f"interrupted; go on with: amira bench {plan} --resume {outcome.path.name}")
        sys.exit(130)
    if store is not None:
        from harness.commands.performance import performance
        from harness.curated import keep

        say(f"kept: {keep(run, store)}")
        performance()

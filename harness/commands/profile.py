"""`amira profile`: where a case's time goes."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.output import Json, print_json, say


def profile(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run's folder or name, or 'latest'.")] = None,
    case: Annotated[
        list[str] | None, typer.Option("--case", metavar="CASE", help="A case to profile; may be given several times.")
    ] = None,
    plan: Annotated[
        str | None, typer.Option(metavar="PLAN", help="Measure these cases of a plan once first, as a run of its own.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="How long to look at each case.")] = 10.0,
    rate: Annotated[int, typer.Option(min=1, max=1000, help="Looks a second.")] = 200,
    native: Annotated[bool, typer.Option("--native", help="Show the frames of C code, too.")] = False,
    json: Json = False,
) -> None:
    """Draw flame graphs of cases with py-spy, and attach them to a run and its report.

    Without --case, every case of the run that can run here is profiled. Needs the extra `profile`.

    Examples:  amira profile latest --case int8    amira profile --plan gate    amira profile latest --native
    """
    from harness.profile import profile as draw
    from harness.report import write_report
    from harness.store import find_run, open_run
    from pipelines.errors import AmiraError
    from pipelines.models.locate import check_model
    from pipelines.paths import models_dir

    if (run is None) == (plan is None):
        raise AmiraError("name a run, or a plan with --plan: one of them.")
    found = open_run(find_run(run)) if run is not None else open_run(_measured(str(plan), case or []))
    names = case or [entry.case.id for entry in found.manifest.cases if entry.unavailable_reason is None]
    for model in sorted({entry.case.pipeline.model for entry in found.manifest.cases if entry.case.id in names}):
        check_model(models_dir(), model)
    graphs = {
        name: draw(found, name, models_dir(), seconds=seconds, rate=rate, native=native, say=say) for name in names
    }
    for name, path in graphs.items():
        say(f"{name}: {path}")
    say(f"report: {write_report(found).html}")
    if json:
        print_json({"run": found.manifest.run, "profiles": {name: str(path) for name, path in graphs.items()}})


def _measured(name: str, wanted: list[str]) -> str:
    """Measure cases of a plan once; returns the run's folder."""
    from harness.corpus import load_corpus
    from harness.plan import find_plan, load_plan
    from harness.progress import reporter
    from harness.runner import run_plan
    from pipelines.errors import unknown
    from pipelines.models.locate import check_model
    from pipelines.paths import models_dir, runs_dir

    loaded = load_plan(find_plan(name))
    have = [case.id for case in loaded.cases]
    for missing in (case for case in wanted if case not in have):
        raise unknown("case", missing, have, f"Name a case of plan '{loaded.name}' with --case.")
    cases = tuple(
        case.model_copy(update={"compare_to": None, "rung": False})
        for case in loaded.cases
        if not wanted or case.id in wanted
    )
    for model in sorted({case.pipeline.model for case in cases}):
        check_model(models_dir(), model)
    outcome = run_plan(
        loaded.model_copy(update={"cases": cases, "repeats": 1, "laps": 1, "name": f"{loaded.name}-profile"}),
        corpus=load_corpus(loaded.corpus_location),
        models_dir=models_dir(),
        runs_dir=runs_dir(),
        reporter=reporter(),
    )
    return str(outcome.path)

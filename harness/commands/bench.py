"""`amira bench`: run a plan."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from harness.output import Json, print_json, say

if TYPE_CHECKING:
    from harness.executor import Executor as Opened


class Executor(StrEnum):
    """The executors by name."""

    LOCAL = "local"
    RAY = "ray"


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
    executor: Annotated[
        Executor,
        typer.Option(help="Where processes run: this machine, or the workers of a Ray cluster (extra `ray`)."),
    ] = Executor.LOCAL,
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="A cluster that runs, or 'auto'. Without, Ray is started on this machine."
        ),
    ] = None,
    shard_minutes: Annotated[
        float, typer.Option(min=0.001, help="Audio in a shard of a corpus, where a plan measures accuracy on Ray.")
    ] = 10.0,
    json: Json = False,
) -> None:
    """Measure every case of a plan and write a report.

    Each case runs in fresh processes, interleaved over the repeats. A case that cannot run here, crashes or hangs is
    a row with its reason, and the rest goes on. Ctrl-C keeps what was measured: report it, or go on with --resume.

    With --executor ray, the results are those of a local run, from a cluster. Nodes that may time cases offer the
    resource amira_timing; cases that are compared share one. A plan with measures = "accuracy" looks at texts alone:
    its cases, and shards of a big corpus, spread over all cores of all nodes. Every node needs this checkout with its
    models, at the same place.

    Examples:  amira bench default    amira bench my-plan.toml    amira bench default --resume latest
    amira bench 006-ledger --store ledger    amira bench sweep.toml --executor ray --ray-address auto
    """
    from harness.corpus import load_corpus
    from harness.plan import find_plan, load_plan
    from harness.progress import reporter
    from harness.report import write_report
    from harness.runner import run_plan
    from harness.store import find_run, open_run
    from harness.summary import summarise
    from pipelines.errors import AmiraError
    from pipelines.models.locate import check_model
    from pipelines.paths import models_dir, runs_dir

    if executor is Executor.LOCAL and ray_address is not None:
        raise AmiraError("--ray-address names a cluster, and this run is local. Add --executor ray, or leave it out.")
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
        executor=_executor(executor, ray_address, shard_minutes),
    )
    run = open_run(outcome.path)
    paths = write_report(run)
    say(f"report: {paths.html}")
    if json:
        print_json(summarise(run))
    if outcome.status == "interrupted":
        where = f" --executor {executor.value}" if executor is not Executor.LOCAL else ""
        where += f" --ray-address {ray_address}" if ray_address else ""
        say(f"interrupted; go on with: amira bench {plan} --resume {outcome.path.name}{where}")
        sys.exit(130)
    if store is not None:
        from harness.commands.performance import performance
        from harness.curated import keep

        say(f"kept: {keep(run, store)}")
        performance()


def _executor(name: Executor, address: str | None, shard_minutes: float) -> Opened:
    if name is Executor.LOCAL:
        from harness.executor import LocalExecutor

        return LocalExecutor()
    from harness.executor_ray import RayExecutor

    return RayExecutor(address, shard_minutes * 60)

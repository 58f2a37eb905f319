"""`amira gate`: is the candidate worse than the baseline?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.output import Json, print_json, say

if TYPE_CHECKING:
    from harness.gate.config import GateConfig
    from harness.gate.measure import Bench
    from harness.gate.result import Result
    from harness.store import Run

app = typer.Typer(
    invoke_without_command=True,
    help="""Stop a regression: compare this checkout with a baseline in speed, memory and accuracy.

    Exit codes: 0 fine, 1 regression, 2 wrong usage or not comparable, 3 too noisy to say, 4 nothing measured.

    Examples:

    amira gate --against main              both checkouts, measured together: the way to be sure

    amira gate --repository . --plan plan.toml --against main  your package of variants, in the same way

    amira gate --baseline auto             against the stored baseline of this machine: quicker, blunter

    amira gate --baseline A --candidate B  two stored runs; nothing is measured

    amira gate save latest                 keep a run as this machine's baseline

    amira gate calibrate                   how often the gate itself is wrong
    """,
)

Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Margins, repeats, budget. By default ci/gate.toml.")
]


@app.callback()
def gate(
    context: typer.Context,
    plan: Annotated[
        str | None, typer.Option(metavar="PLAN", help="What to measure, if not the configured plan.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="COMMIT", help="The baseline is this commit, measured beside the candidate.")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="The baseline is a stored run, or 'auto' for that of this machine."),
    ] = None,
    candidate: Annotated[
        str | None, typer.Option(metavar="RUN", help="With --baseline: judge this stored run and measure nothing.")
    ] = None,
    repository: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Gate the package of variants in this git checkout, instead of AMIRA."),
    ] = None,
    config: Config = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for gate.json, gate.md and junit.xml.")
    ] = None,
    json: Json = False,
) -> None:
    """Compare this checkout with a baseline; see `amira gate --help`."""
    if context.invoked_subcommand is not None:
        return
    from harness.gate.formats import markdown, write
    from pipelines.errors import AmiraError
    from pipelines.paths import home

    if against is not None and baseline is not None:
        raise AmiraError("--against and --baseline are two baselines. Give one of them.")
    if candidate is not None and baseline is None:
        raise AmiraError("--candidate is a stored run, so the baseline must be one, too. Name it with --baseline RUN.")
    if repository is not None and baseline is not None:
        raise AmiraError("--repository compares two states of a package, and --baseline names a run. Give one of them.")
    guarded = settings(config)
    if repository is not None:
        result = _of_repository(guarded, repository, plan, against)
    else:
        result = _result(guarded, plan, against, baseline, candidate)
    paths = write(result, output or home() / "reports" / "gate")
    say(f"verdict: {paths[1]}")
    if json:
        print_json(result.to_json())
    else:
        print(markdown(result))
    sys.exit(result.exit_code)


@app.command()
def save(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder or name, or 'latest'.")] = "latest",
) -> None:
    """Keep a stored run as the baseline of its plan on its machine, under ci/baselines/."""
    from harness.gate.baselines import save as keep
    from harness.store import find_run, open_run

    say(f"baseline: {keep(open_run(find_run(run)), _baselines())}")


@app.command()
def calibrate(
    run: Annotated[
        list[str] | None,
        typer.Option(metavar="RUN", help="Use the pairs of these recorded runs together, and measure nothing."),
    ] = None,
    pairs: Annotated[int, typer.Option(min=2, help="Pairs of fresh processes to record.")] = 48,
    minutes: Annotated[float | None, typer.Option(min=0.1, help="Stop recording after so long.")] = None,
    simulations: Annotated[int, typer.Option(min=1, help="Gatings to play through for each row.")] = 1000,
    plant: Annotated[
        list[str] | None,
        typer.Option(metavar="STAGE=FACTOR", help="Record with this stage of the candidate really slowed down."),
    ] = None,
    accuracy: Annotated[
        str | None, typer.Option(metavar="RUN:CASE", help="Plant word errors in the texts of this stored run, too.")
    ] = None,
    plan: Annotated[str | None, typer.Option(metavar="PLAN", help="What to record.")] = None,
    config: Config = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for calibration.json and calibration.md.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure how often the gate is wrong: this checkout against itself, and with planted slowdowns and word errors.

    Examples:  amira gate calibrate --pairs 400 --minutes 10    amira gate calibrate --plant decode=1.05 --pairs 32
    amira gate calibrate --run MONDAY --run TUESDAY -o reports/calibration
    """
    from json import dumps

    from harness.gate.calibration import calibration, markdown
    from harness.store import find_run, open_run

    guarded = settings(config)
    errors = None
    if accuracy is not None:
        name, _, case = accuracy.rpartition(":")
        errors = (open_run(find_run(name)), case)
    recorded = (
        [open_run(find_run(name)) for name in run]
        if run
        else [_record(guarded, plan, pairs, _planted(plant or []), minutes)]
    )
    found = calibration(recorded, guarded, simulations=simulations, accuracy=errors)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        (output / "calibration.json").write_text(dumps(found, indent=1) + "\n", encoding="utf-8")
        (output / "calibration.md").write_text(markdown(found), encoding="utf-8")
        say(f"calibration: {output / 'calibration.md'}")
    if json:
        print_json(found)
    else:
        print(markdown(found))


def _planted(words: list[str]) -> dict[str, float]:
    from pipelines.errors import AmiraError

    found = {}
    for word in words:
        stage, _, factor = word.partition("=")
        try:
            found[stage] = float(factor)
        except ValueError:
            raise AmiraError(f"--plant {word} is not STAGE=FACTOR, e.g. decode=1.05 for 5 % slower.") from None
        if not stage or found[stage] < 1:
            raise AmiraError(f"--plant {word}: a stage can only be slowed down, by a factor of at least 1.")
    return found


def _record(config: GateConfig, plan: str | None, pairs: int, planted: dict[str, float], minutes: float | None) -> Run:
    """This checkout against itself, the candidate slowed down where that is asked for."""
    from dataclasses import replace

    from harness.gate.measure import two_sides
    from harness.side import BASELINE, CANDIDATE, Side

    bench = bench_of(config, plan)
    bench.plan = bench.plan.model_copy(update={"repeats": pairs})
    here = Side.here(bench.models_dir.absolute())
    sides = {BASELINE: replace(here, name=BASELINE), CANDIDATE: replace(here, slowdown=planted)}
    budget_s = None if minutes is None else 60 * minutes
    return bench.batch(tuple(side for case in bench.plan.cases for side in two_sides(case)), sides, budget_s)


def _baselines() -> Path:
    from pipelines.paths import home

    return home() / "ci" / "baselines"


def settings(path: Path | None) -> GateConfig:
    """The configuration of a path, or of `ci/gate.toml`, or where that is not there the default of every key."""
    from harness.gate.config import DEFAULT, GateConfig, load_gate
    from pipelines.paths import home

    default = home() / DEFAULT
    if path is None and not default.is_file():
        say(f"there is no {DEFAULT}: every key has its default")
        return GateConfig()
    return load_gate(path or default)


def _result(
    config: GateConfig, plan: str | None, against: str | None, baseline: str | None, candidate: str | None
) -> Result:
    from harness.gate import run

    if baseline is None:
        return run.against_commit(config, bench_of(config, plan), against or config.against, say)
    if candidate is not None:
        return run.stored(config, baseline, candidate)
    return run.against_stored(config, bench_of(config, plan), baseline, _baselines())


def _of_repository(config: GateConfig, repository: Path, plan: str | None, against: str | None) -> Result:
    from harness.gate.repository import prepare_repository
    from harness.gate.run import together
    from pipelines.errors import AmiraError

    if plan is None:
        raise AmiraError(
            "--repository has variants of its own, so it needs a plan of its own. Name it with --plan PLAN."
        )
    baseline, candidate = prepare_repository(repository, against or config.against)
    without = config.model_copy(update={"kernels": type(config.kernels)()})  # AMIRA's are the same on both sides
    return together(without, bench_of(without, plan), baseline, candidate, say)


def bench_of(config: GateConfig, plan: str | None) -> Bench:
    """Where to measure a plan, by default the configured one, with the configured repeats."""
    from harness.corpus import load_corpus
    from harness.gate.measure import Bench
    from harness.plan import find_plan, load_plan
    from harness.progress import reporter
    from pipelines.models.locate import check_model
    from pipelines.paths import models_dir, runs_dir

    loaded = load_plan(find_plan(plan or config.plan)).model_copy(update={"repeats": config.repeats.batch})
    for model in loaded.models:
        check_model(models_dir(), model)
    return Bench(loaded, load_corpus(loaded.corpus_location), models_dir(), runs_dir(), reporter)

"""Flame graphs of a case: py-spy looks at its worker process while that goes through the corpus again and again.

The times of such a process are not kept, for it is stopped at each look. What is kept is `profiles/<case>.svg` in the
run's folder, which the run's report links to.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING

from harness.plan import Plan, parse_plan
from harness.process import WorkerProcess
from harness.records import Case, Manifest
from harness.report.sections.profiles import FOLDER
from harness.scratch import Scratch, write_scratch
from harness.store import Run
from harness.worker import Job
from pipelines.assemble import process_environment, unavailable
from pipelines.errors import AmiraError, unknown

if TYPE_CHECKING:
    from harness.corpus import Clip

ENOUGH_LAPS = 10_000
GRACE_S = 30.0
TICK_S = 0.2


def profile(
    run: Run, case_id: str, models_dir: Path, *, seconds: float, rate: int, native: bool, say: Callable[[str], None]
) -> Path:
    """Profile one case of a run on the run's own utterances.

    Args:
        run: A stored run.
        case_id: One of its cases.
        models_dir: Folder of built models.
        seconds: How long to look.
        rate: Looks a second.
        native: Whether C frames are shown as well.
        say: Hears how far it is.

    Returns:
        The flame graph.

    Raises:
        AmiraError: py-spy is missing or may not look, there is no such case, it cannot run, or its audio is not there.
    """
    command = _py_spy()
    case = _case(run.manifest, case_id)
    plan = parse_plan(run.manifest.plan_toml, Path("plan.toml"))
    clips = _clips(run, plan)
    target = run.path / FOLDER / f"{case_id}.svg"
    with tempfile.TemporaryDirectory(prefix="amira-") as folder:
        scratch = write_scratch(clips, Path(folder))
        graph = Path(folder) / "profile.svg"
        look = [*command, "record", "--output", str(graph), "--duration", f"{max(1, round(seconds))}"]
        look += ["--rate", str(rate), *(["--native"] if native else [])]
        _record(case, scratch, models_dir, look, seconds, say)
        try:
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(graph.read_bytes())
        except OSError as error:
            raise AmiraError(f"cannot write the profile '{target}': {error.strerror or error}.") from error
    return target


def _py_spy() -> list[str]:
    beside = Path(sys.executable).parent  # of an environment that nobody need have activated
    program = shutil.which("py-spy", path=os.pathsep.join([str(beside), os.environ.get("PATH", "")]))
    if program is None:
        raise AmiraError("py-spy is not installed. Install it, in this checkout, with: pip install -e '.[profile]'")
    return [program]


def _case(manifest: Manifest, case_id: str) -> Case:
    cases = {entry.case.id: entry.case for entry in manifest.cases}
    if case_id not in cases:
        raise unknown("case", case_id, list(cases), f"Name a case of run '{manifest.run}' with --case.")
    case = cases[case_id]
    if case.side is not None:
        raise AmiraError(
            f"case '{case_id}' is one side of a comparison of two checkouts. Profile a run of `amira bench` instead."
        )
    if (problem := unavailable(case.pipeline)) is not None:
        raise AmiraError(f"case '{case_id}' cannot run here: {problem[0]}: {problem[1].reason}. {problem[1].remedy}")
    return case


def _clips(run: Run, plan: Plan) -> list[Clip]:
    """The run's utterances, with the audio that they had."""
    from harness.corpus import load_corpus

    if plan.corpus.startswith(("./", "../")):
        raise AmiraError(
            f"the run's corpus '{plan.corpus}' lies beside a plan file that is not known any more. "
            "Profile the plan: amira profile --plan PLAN"
        )
    clips = load_corpus(plan.corpus).under(plan.condition).clips
    found = [clip for clip in clips if clip.id in run.utterances]
    if not found:
        raise AmiraError(
            f"corpus '{plan.corpus}' has none of the run's {len(run.utterances)} utterances any more. "
            "Fetch it again, or make a new run: amira bench PLAN"
        )
    return found


def _record(
    case: Case, scratch: Scratch, models_dir: Path, look: list[str], seconds: float, say: Callable[[str], None]
) -> None:
    """Start the case's process, and look at it once it is warm."""
    job = Job(
        pipeline=case.pipeline.model_dump(mode="json"),
        models_dir=str(models_dir.absolute()),
        audio=str(scratch.audio),
        utterances=scratch.sizes,
        warm_up=1,
        laps=ENOUGH_LAPS,
        order_seed=0,
        memory_limit_mib=None,
        spawned_ns=perf_counter_ns(),
        parent=os.getpid(),
        traceable=True,
    )
    say(f"{case.id}: loading")
    environment = process_environment(case.pipeline, dict(os.environ))
    with WorkerProcess(scratch.job_file(job), environment) as worker:
        spy: subprocess.Popen[str] | None = None
        deadline = perf_counter_ns() + int((seconds + GRACE_S) * 1e9) * 10
        while spy is None or spy.poll() is None:
            for event in worker.events(TICK_S):
                if event["event"] == "sample" and spy is None:
                    say(f"{case.id}: looking for {seconds:g} s")
                    command = [*look, "--pid", str(worker.pid)]
                    spy = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                elif event["event"] == "failed":
                    _end(spy)
                    raise AmiraError(f"case '{case.id}' failed: {event['error']}. Mend that, then profile it.")
            if worker.exited() or perf_counter_ns() > deadline:
                _end(spy)
                words = "".join(f"; stderr: {line}" for line in worker.stderr[-1:])
                raise AmiraError(f"case '{case.id}' died or hung before it could be profiled{words}.")
        said = _end(spy)
        if spy.returncode:
            raise AmiraError(
                f"py-spy could not look at the process: {said}. It needs to be allowed to trace: run as root, or in a "
                "container with the capability SYS_PTRACE."
            )


def _end(spy: subprocess.Popen[str] | None) -> str:
    """End py-spy if it still runs; its last words."""
    if spy is None:
        return ""
    if spy.poll() is None:
        spy.terminate()
    output, _ = spy.communicate()
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"

"""Runs a load: client processes, one folder of raw samples per step, what the server says before and after."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter_ns
from typing import Any

from harness.corpus import Corpus
from harness.fingerprint import fingerprint
from harness.load.scrape import Watch, scrape
from harness.load.spec import SAMPLE_RATE, Job, LoadSpec, Spoken
from harness.load.speech import write_speech
from harness.recorder import new_run_folder, utc_now, write_atomically
from pipelines.errors import AmiraError, NothingMeasuredError
from pipelines.paths import home, models_dir, runs_dir

LOAD = "load.json"
SCHEMA_VERSION = 1
START_DELAY_S = 0.5
"""Between the word to begin and the first stream."""
MAX_AUDIO_S = 900.0


def run_load(
    url: str, steps: Sequence[LoadSpec], corpus: Corpus, say: Callable[[str], None], token: str | None = None
) -> Path:
    """Run every step and store it.

    Returns:
        The folder of the run: `load.json`, and per step a folder of raw samples.

    Raises:
        AmiraError: The server cannot be reached, or a client process failed.
    """
    scrape(url)  # a wrong address fails here and not in a hundred streams
    folder = new_run_folder(runs_dir(), "load")
    longest_s = max(step.seconds for step in steps)
    with TemporaryDirectory() as scratch:  # recordings stay where they came from
        audio = Path(scratch) / "speech.raw"
        spoken = write_speech(corpus, audio, min(MAX_AUDIO_S, max(60.0, longest_s)), steps[0].seed)
        record: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "run": folder.name,
            "created_utc": utc_now(),
            "corpus": corpus.name,
            "spoken": [each.model_dump() for each in spoken],
            "audio_samples": audio.stat().st_size // 2,
            "fingerprint": fingerprint(models_dir(), ()),
            "steps": [],
        }
        for number, step in enumerate(steps):
            say(f"{step.streams} streams for {step.seconds:.0f} s ...")
            record["steps"].append(_run_step(url, token, step, number, folder, audio, spoken))
            write_atomically(folder / LOAD, json.dumps(record, indent=1).encode())
    return folder


def _run_step(
    url: str, token: str | None, step: LoadSpec, number: int, folder: Path, audio: Path, spoken: tuple[Spoken, ...]
) -> dict[str, Any]:
    output = folder / f"step-{number:02d}"
    output.mkdir()
    before = scrape(url)
    chance, samples = random.Random(step.seed), audio.stat().st_size // 2
    offsets = [chance.randrange(samples) if step.anywhere else chance.choice(spoken).start for _ in range(step.streams)]
    workers = []
    for index in range(min(step.processes, step.streams)):
        numbers = tuple(range(index, step.streams, step.processes))
        job = Job(
            url=url,
            token=token,
            spec=step,
            streams=numbers,
            offsets=tuple(offsets[stream] for stream in numbers),
            audio=str(audio),
            output=str(output),
        )
        command = [sys.executable, "-m", "harness.load.worker"]
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=home())
        workers.append(worker)
        _tell(worker, job.model_dump_json())
    try:
        for worker in workers:
            if worker.stdout is None or worker.stdout.readline() != "ready\n":
                raise AmiraError("a client process of the load did not start; what it said is above")
        start_ns = perf_counter_ns() + round(START_DELAY_S * 1e9)
        for worker in workers:
            _tell(worker, str(start_ns))
        with Watch(url, step.seconds) as watch:
            codes = [worker.wait() for worker in workers]
    except BaseException:
        for worker in workers:
            worker.terminate()
            worker.wait()
        raise
    if any(codes):
        raise AmiraError(f"client processes of the load ended with {codes}; what they said is above")
    return {"folder": output.name, "spec": step.model_dump(), "before": before, "after": scrape(url),
            "start_ns": start_ns, "end_ns": perf_counter_ns(), "memory": watch.points}  # fmt: skip


def _tell(worker: subprocess.Popen[str], line: str) -> None:
    if worker.stdin is not None:
        worker.stdin.write(line + "\n")
        worker.stdin.flush()


def find_load(name: str) -> Path:
    """The folder of a stored load run: a folder, a name under the runs, or `latest`.

    Raises:
        AmiraError: There is none of that name.
    """
    stored = sorted(runs_dir().glob(f"*/{LOAD}"), key=lambda path: path.stat().st_mtime)
    if name == "latest" and stored:
        return stored[-1].parent
    for folder in (Path(name), runs_dir() / name, home() / "reports" / name):
        if (folder / LOAD).is_file():
            return folder
    have = ", ".join(path.parent.name for path in stored[-5:]) or "none"
    raise AmiraError(f"load run '{name}' does not exist; have: {have}. Make one with: amira load URL")


def steps_of(folder: Path) -> tuple[dict[str, Any], list[LoadSpec]]:
    """The record of a stored run and its steps. A run that was cut off has the steps that it finished.

    Raises:
        AmiraError: The record is broken, of another schema version, or has no step.
    """
    path = folder / LOAD
    try:
        record = json.loads(path.read_bytes())
        version, steps = record["schema_version"], record["steps"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AmiraError(
            f"{path} is broken ({error}). Restore it from a copy, or measure again: amira load URL"
        ) from error
    if version != SCHEMA_VERSION:
        raise AmiraError(f"{path} has schema_version {version!r}; this AMIRA reads {SCHEMA_VERSION}. Measure again.")
    if not steps:
        raise NothingMeasuredError(f"{path} has no finished step. Measure again: amira load URL")
    try:
        return record, [LoadSpec.model_validate(step["spec"]) for step in steps]
    except (ValueError, KeyError, TypeError) as error:
        raise AmiraError(f"{path} does not describe a load run: {error}. Restore it from a copy.") from error


def samples_to_ms(samples: int) -> int:
    """Samples as milliseconds."""
    return samples * 1_000 // SAMPLE_RATE

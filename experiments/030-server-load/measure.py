"""How many streams the server takes, what it costs itself, and how others do: every bar of the README.

    python experiments/030-server-load/measure.py                 # everything, an hour and a half, on a quiet machine
    python experiments/030-server-load/measure.py null rivals     # some sections
    python experiments/030-server-load/measure.py --seconds 3 ... # a try: shorter steps
    python experiments/030-server-load/measure.py --show          # result.json into the README once more

Each section goes into `result.json` when it is done, and its table into the README.

Servers have the first core, those of sections `both` and `both-real` the second, too; clients have the second. For
sherpa-onnx: `python -m venv build/sherpa` and `build/sherpa/bin/pip install sherpa-onnx-bin==2.0.1`.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import bars
import legacy_client
import tables
from contenders import (
    FORMS,
    INT8,
    INT8_ONNX_RUNTIME,
    MODEL,
    ONNX_RUNTIME,
    Contender,
    Running,
    amira,
    running,
    sherpa,
    sherpa_program,
)

from harness.documents import filled_in
from harness.fingerprint import fingerprint
from pipelines import compiled
from pipelines.paths import models_dir

RESULT, README = (Path(__file__).with_name(name) for name in ("result.json", "README.md"))
OURS = {"AMIRA, FP32": (), "AMIRA, INT8": INT8}
"""What the configuration of `streaming.toml` is changed by: by nothing, and by integers in the products."""
LIMIT_MS = 300.0
FINENESS = 1.03
"""The search ends when the smallest number of streams that was too many is at most so much above the largest fine."""
SECTIONS = ("null", "rivals", "legacy", "real", "both", "both-real")


def main() -> None:
    """Measure, or show what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="section", help=f"of {', '.join(SECTIONS)}; all if none")
    parser.add_argument("--seconds", type=float, default=20.0, help="audio of each stream in a step")
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--show", action="store_true", help="print the tables of the stored result")
    arguments = parser.parse_args()
    if wrong := set(arguments.sections) - set(SECTIONS):
        parser.error(f"no such section: {', '.join(sorted(wrong))}; have: {', '.join(SECTIONS)}")
    if not arguments.show:
        measure(arguments.sections or list(SECTIONS), arguments.seconds, arguments.output)
    made = tables.all_tables(json.loads(arguments.output.read_text("utf-8")) if arguments.output.is_file() else {})
    print("\n\n".join(made.values()))
    if arguments.output == RESULT:
        README.write_text(filled_in(README.read_text("utf-8"), made), "utf-8")


def measure(sections: list[str], seconds: float, output: Path) -> None:
    """Run sections; each replaces what the file has of it."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    result = json.loads(output.read_text("utf-8")) if output.is_file() else {}
    result["fingerprint"] = fingerprint(models_dir(), [MODEL])
    compiled.build(print)  # the form that servers take by themselves
    run: dict[str, Callable[[], dict[str, Any]]] = {
        "null": lambda: bars.null(cores, seconds),
        "rivals": lambda: rivals(cores, seconds),
        "legacy": lambda: legacy(cores, seconds),
        "real": lambda: real(cores, seconds, result["rivals"], 1),
        "both": lambda: both(cores[:2], seconds),
        "both-real": lambda: real(cores[:2], seconds, result["both"], 2),
    }
    for section in sections:
        result[section] = {"seconds": seconds, **run[section]()}
        output.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


class Search:
    """The largest number of streams whose 99th percentile is below a limit, by doubling and halving."""

    def __init__(self, limit_ms: float, first: int) -> None:
        self.limit_ms, self._next = limit_ms, first
        self.steps: list[dict[str, Any]] = []
        self.best, self._worst = 0, 0

    @property
    def over(self) -> bool:
        """Whether it is known well enough."""
        return self._worst == 1 or (self.best > 0 and 0 < self._worst <= max(self.best * FINENESS, self.best + 1))

    def go_on(self, server: Running, seconds: float) -> None:
        """One more step."""
        step = server.step(self._next, seconds)
        fine = bool(step["n"]) and step["p99"] < self.limit_ms and not step["bad"]
        self.steps.append({**step, "fine": fine})
        print(server.contender.kind, json.dumps(self.steps[-1]), flush=True)
        if fine:
            self.best = max(self.best, self._next)
        else:
            self._worst = min(self._worst or self._next, self._next)
        self._next = self.best * 2 if not self._worst else (self.best + self._worst) // 2

    def result(self) -> dict[str, Any]:
        """What was found."""
        return {"limit_ms": self.limit_ms, "streams": self.best, "steps": self.steps}


def search(
    contenders: dict[str, Contender], cores: Sequence[int], seconds: float, limit_ms: float, first: int
) -> dict[str, Any]:
    """Search for every contender, a step of each in turn, so that a busy minute meets all of them.

    All servers run all the time; those that are not asked wait and take no time.
    """
    with ExitStack() as stack:
        servers = {name: stack.enter_context(running(each, cores)) for name, each in contenders.items()}
        searches = {name: Search(limit_ms, first) for name in contenders}
        while not all(each.over for each in searches.values()):
            for name, each in searches.items():
                if not each.over:
                    each.go_on(servers[name], seconds)
        return {name: each.result() for name, each in searches.items()}


def rivals(cores: Sequence[int], seconds: float) -> dict[str, Any]:
    """The streaming model in our server and in sherpa-onnx's, on one core."""
    contenders = ours(1) | {
        "AMIRA, FP32, by ONNX Runtime": amira(*ONNX_RUNTIME),
        "AMIRA, INT8, by ONNX Runtime": amira(*INT8_ONNX_RUNTIME),
    }
    contenders |= theirs(1)
    return {"unavailable": _unavailable(), "searches": search(contenders, cores, seconds, LIMIT_MS, 16)}


def both(cores: Sequence[int], seconds: float) -> dict[str, Any]:
    """The same two on two cores, which they share with the clients."""
    contenders = ours(len(cores)) | theirs(len(cores))
    return {"unavailable": _unavailable(), "searches": search(contenders, cores, seconds, LIMIT_MS, 16)}


def real(cores: Sequence[int], seconds: float, found: dict[str, Any], use: int) -> dict[str, Any]:
    """One stream of ours, 70 % and all of what they took on so many cores."""
    takes = {name: found["searches"][name]["streams"] for name in OURS}
    return {
        "by": {
            name: bars.real(amira(*changed, cores=use), cores, seconds, takes[name]) for name, changed in OURS.items()
        }
    }


def ours(cores: int) -> dict[str, Contender]:
    """Our server, with steps as trained and as long as sherpa-onnx's."""
    six = ("--set", "recognizer.first.options.acoustic.chunk_frames=6")
    trained = {name: amira(*changed, cores=cores) for name, changed in OURS.items()}
    return trained | {f"{name}, steps of 144 ms": amira(*changed, *six, cores=cores) for name, changed in OURS.items()}


def theirs(cores: int) -> dict[str, Contender]:
    """sherpa-onnx's server, where it is installed."""
    names = {f"sherpa-onnx, {precision}, steps of 144 ms": form for precision, form in FORMS.items()}
    return {} if _unavailable() else {name: sherpa(form, cores) for name, form in names.items()}


def _unavailable() -> str | None:
    if sherpa_program() is not None:
        return None
    return "sherpa-onnx-bin is not installed: build/sherpa/bin/pip install sherpa-onnx-bin==2.0.1"


def legacy(cores: Sequence[int], seconds: float) -> dict[str, Any]:
    """What the legacy service gives one reader, and how many readers ours gives as much, by two configurations."""
    with running(Contender("legacy"), cores) as server:
        one = server.step(1, max(seconds, 2 * legacy_client.UTTERANCE_S))
        errors = legacy_client.wer(server.port)
    room = ("--set", "limits.max_ahead_ms=60000", "--set", "limits.max_sessions=500")
    configurations = {
        "partials by the streaming model": amira(*room, *INT8, "--set", "recognizer.finals=second-pass", finals=True),
        "default": amira(*room, config=None, finals=True),
    }
    long = min(30.0, max(seconds, 5 * one["p99"] / 1_000))  # a queue that only grows must not stay below the limit
    found = search(configurations, cores, long, one["p99"], 8)
    for name, contender in configurations.items():
        with running(contender, cores) as server:
            found[name]["wer"] = bars.word_errors(bars.texts(server))
    return {"legacy": one, "legacy_wer": errors, "step_s": long, "ours": found}


if __name__ == "__main__":
    main()

"""Two pull requests that the gate must tell apart: `python experiments/gate/pull_requests.py`.

One makes one kernel a tenth slower: the scalar one of `kernels/argmax.py` searches one row in nine twice. The other
changes a comment of that file. Each is a copy of the commit with that one edit, and is gated against the commit as
`amira gate` does it, with `ci/gate.toml`: the first `--red` times, the second `--green` times. Every gating is a line
of `pull-requests.jsonl`, appended as it ends; `--report` writes `pull-requests.md` from them.

With `--kernels` the plan's cases are left out: a gating then takes a minute and less.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

from harness import fingerprint
from harness.commands.gate import bench_of, settings
from harness.gate.checkout import prepare
from harness.gate.config import GateConfig
from harness.gate.kernels import WithKernels
from harness.gate.measure import against_side
from harness.gate.result import Result
from harness.gate.sequence import decide
from harness.side import BASELINE, CANDIDATE, Side
from pipelines.paths import home

HERE = Path(__file__).parent
RESULTS = HERE / "pull-requests.jsonl"
FILE = Path("kernels") / "argmax.py"
LOOP = "        for row in range(rows):\n"
SLOWER = "        for turn in range(rows + rows // 9):\n            row = turn % rows\n"
COMMENT = "        # the rows, one after the other\n"


def slower(text: str) -> str:
    """One row in nine twice."""
    return text.replace(LOOP, SLOWER)


def comment(text: str) -> str:
    """The same program."""
    return text.replace(LOOP, COMMENT + LOOP)


CHANGES: dict[str, Callable[[str], str]] = {"one kernel a tenth slower": slower, "a comment": comment}


def main() -> None:
    """Gate both, or report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--red", type=int, default=1, help="gatings of the slower kernel")
    parser.add_argument("--green", type=int, default=20, help="gatings of the comment")
    parser.add_argument("--kernels", action="store_true", help="the kernels alone, without the plan's cases")
    parser.add_argument("--operations", nargs="*", help="of the kernels only these; all that ci/gate.toml names")
    parser.add_argument("--commit", default="HEAD")
    parser.add_argument("--report", action="store_true", help="write pull-requests.md and measure nothing")
    options = parser.parse_args()
    if not options.report:
        measure(options)
    report()


def measure(options: argparse.Namespace) -> None:
    """Run the gatings and keep each."""
    config = settings(None)
    if options.operations:
        kept = {name: stage for name, stage in config.kernels.operations.items() if name in options.operations}
        config = config.model_copy(update={"kernels": config.kernels.model_copy(update={"operations": kept})})
    baseline = prepare(options.commit, ["moonshine-aed"], print)
    for what, times in zip(CHANGES, (options.red, options.green), strict=True):
        with tempfile.TemporaryDirectory(prefix="amira-pull-request-") as folder:
            candidate = changed(baseline, Path(folder), CHANGES[what])
            for number in range(times):
                started = monotonic()
                result = gate(config, baseline, candidate, kernels_alone=options.kernels)
                row = {
                    "change": what,
                    "scope": "kernels" if options.kernels else "plan and kernels",
                    "verdict": result.verdict,
                    "exit_code": result.exit_code,
                    "batches": result.batches,
                    "seconds": round(monotonic() - started, 1),
                    "load": round(os.getloadavg()[0], 1),
                    "machine": result.machine,
                    "worse": sorted({metric for case in result.cases for metric in case.worse()}),
                    "unclear": sorted(
                        row.metric
                        for case in result.cases
                        for row in case.rows
                        if row.judged and row.verdict == "unclear"
                    ),
                    "notes": sorted({note for case in result.cases for note in case.notes}),
                    "operations": sorted(config.kernels.operations),
                    "changes": {row.metric: round(row.change, 6) for case in result.cases for row in case.rows},
                }
                with RESULTS.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                print(
                    f"{what}, {number + 1} of {times}: {row['verdict']} in {row['seconds']} s {row['worse']}",
                    flush=True,
                )


def changed(baseline: Side, folder: Path, change: Callable[[str], str]) -> Side:
    """The baseline's checkout with one file edited, as a checkout of its own."""
    metadata, checkout = (Path(part) for part in baseline.environment["PYTHONPATH"].split(os.pathsep)[:2])
    for package in ("kernels", "pipelines"):
        shutil.copytree(checkout / package, folder / package)
    text = (folder / FILE).read_text(encoding="utf-8")
    if change(text) == text:
        sys.exit(f"{FILE} has no line {LOOP.strip()!r} any more: mend this experiment")
    (folder / FILE).write_text(change(text), encoding="utf-8")
    environment = {"PYTHONPATH": os.pathsep.join([str(metadata), str(folder)]), "AMIRA_HOME": str(home())}
    return replace(baseline, name=CANDIDATE, environment=environment)


def gate(config: GateConfig, baseline: Side, candidate: Side, *, kernels_alone: bool) -> Result:
    """One gating, by the gate's own parts."""
    started = monotonic()
    bench = None if kernels_alone else bench_of(config, None)
    rest = (lambda _: {}) if bench is None else against_side(bench, baseline, candidate)
    sides = {BASELINE: baseline, CANDIDATE: candidate}
    decision = decide(
        WithKernels(rest, sides, config.kernels, config.repeats.batch, lambda _: None, lambda _: None), config
    )
    cpu = fingerprint.fingerprint(baseline.models_dir, set())["cpu"]
    return Result(
        str(baseline.code["commit"])[:12],
        "pull request",
        "interleaved",
        decision.cases,
        (),
        f"{cpu['model']}, {cpu['cores']} cores",
        decision.batches,
        round(monotonic() - started, 1),
    )


def report() -> None:
    """Write the table."""
    rows: list[dict[str, Any]] = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    lines = [
        "| change | gated | on | gatings | verdicts | judged worse | seconds, median | load of the machine |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for what in CHANGES:
        for scope in ("plan and kernels", "kernels"):
            found = [row for row in rows if (row["change"], row["scope"]) == (what, scope)]
            if not found:
                continue
            verdicts = ", ".join(f"{count} × {word}" for word, count in Counter(r["verdict"] for r in found).items())
            worse = sorted({metric for row in found for metric in row["worse"]})
            seconds = sorted(row["seconds"] for row in found)[len(found) // 2]
            load = f"{min(row['load'] for row in found):g} to {max(row['load'] for row in found):g}"
            named = (
                "<br>".join(f"{metric}: {found[-1]['changes'].get(metric, 0):+.1%}" for metric in worse) or "nothing"
            )
            cells = (what, scope, found[0]["machine"], str(len(found)), verdicts, named, f"{seconds:g}", load)
            lines.append(f"| {' | '.join(cells)} |")
    (HERE / "pull-requests.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

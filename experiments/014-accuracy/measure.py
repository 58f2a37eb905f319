"""Runs the accuracy plans one after the other, stores their runs under reports/, and writes README.md's tables.

    .venv/bin/python experiments/014-accuracy/measure.py             # all plans; an hour on a core
    .venv/bin/python experiments/014-accuracy/measure.py --clips 8   # a trial of everything: stores nothing
    .venv/bin/python experiments/014-accuracy/measure.py --plans draft.toml    # chosen ones anew, the rest as stored
    .venv/bin/python experiments/014-accuracy/measure.py --show      # the tables of the stored runs

A plan whose model is not built is left out, and says so.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.documents import filled_in
from harness.plan import load_plan
from harness.store import open_run
from harness.summary import summarise
from pipelines.errors import AmiraError
from pipelines.models.locate import check_model
from pipelines.paths import models_dir, runs_dir

HERE = Path(__file__).parent
RESULT, README = HERE / "result.json", HERE / "README.md"
REPORTS = HERE.parents[1] / "reports"
PLANS = {
    "plan.toml": "accuracy",
    "precision.toml": "accuracy-precision",
    "conditions.toml": "accuracy-conditions",
    "floor.toml": "accuracy-floor",
    "draft.toml": "accuracy-draft",
}
"""Plan to the stored run's folder."""
CORPORA = ("librispeech", "commonvoice-v1", "speechocean762", "an4")
MARGIN = 0.3
"""Points of WER that a lower precision may cost."""
LOWER = ("fp16", "int8", "balanced", "compiled")
"""Ends of the names of cases in less than FP32."""
NOT_YET = "Not measured yet."


def main() -> None:
    """Measure, or show what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", action="store_true", help="write the tables of the stored runs")
    parser.add_argument("--plans", nargs="+", choices=PLANS, default=list(PLANS), help="measure these alone")
    parser.add_argument("--clips", type=int, help="a trial with so many clips, which stores nothing")
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    for plan, name in PLANS.items():
        known = arguments.show or plan not in arguments.plans
        summary = _stored(name) if known else _measured(plan, name, arguments.clips)
        if summary is not None:
            found[name] = _reduced(summary)
    if not arguments.clips:
        RESULT.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    tables = all_tables(found)
    for table in tables.values():
        print(f"{table}\n")
    if not arguments.clips:
        README.write_text(filled_in(README.read_text("utf-8"), tables), "utf-8")


def _stored(name: str) -> dict[str, Any] | None:
    return summarise(open_run(REPORTS / name)) if (REPORTS / name).is_dir() else None


def _measured(plan: str, name: str, clips: int | None) -> dict[str, Any] | None:
    source = (HERE / plan).read_text("utf-8")
    if clips:
        source = re.sub(r"(?m)^corpus_limit = .*$", f"corpus_limit = {{ max_clips = {clips} }}", source)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / plan
        file.write_text(source, "utf-8")
        try:
            for model in {case.pipeline.model for case in load_plan(file).cases}:
                check_model(models_dir(), model)
        except AmiraError as error:
            print(f"{plan} is left out: {error}", file=sys.stderr)
            return None
        command = [str(Path(sys.executable).with_name("amira")), "bench", str(file), "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    summary: dict[str, Any] = json.loads(done.stdout)
    if not clips:
        shutil.rmtree(REPORTS / name, ignore_errors=True)
        shutil.copytree(runs_dir() / summary["run"], REPORTS / name)
    return summary


def _reduced(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What the tables need of a summary."""
    keys = ("id", "title", "status", "reason", "rtf", "peak_rss_mib", "compare_to", "wer", "cer", "wer_difference")
    return {
        "run": summary["run"],
        "clips": summary["data"]["utterances"],
        "minutes": round(summary["data"]["audio_s"] / 60, 1),
        "cases": [{key: case[key] for key in keys} for case in summary["cases"]],
    }


def all_tables(found: Mapping[str, Any]) -> dict[str, str]:
    """Every table by its name in README.md."""
    return {
        "clean": _clean(found.get("accuracy")),
        "precision": _precision(
            [found[name] for name in ("accuracy-precision", "accuracy", "accuracy-draft") if name in found]
        ),
        "conditions": _conditions(found.get("accuracy-conditions")),
        "floor": _clean(found.get("accuracy-floor")),
        "draft": _clean(found.get("accuracy-draft")),
    }


def _clean(run: Mapping[str, Any] | None) -> str:
    """Word error rate by case and corpus, with time and memory."""
    if run is None:
        return NOT_YET
    lines = [
        f"{run['clips']} clips, {run['minutes']} minutes of speech. Word error rate in % with its 95 % interval.",
        "",
        f"| case | {' | '.join(CORPORA)} | s per s of audio | peak memory, MiB |",
        f"|---|{'---:|' * (len(CORPORA) + 2)}",
    ]
    for case in run["cases"]:
        if case["status"] != "ok":
            lines.append(f"| {case['title']} | {case['status']}: {case['reason']} {'| ' * (len(CORPORA) + 1)}|")
            continue
        cells = [_rate(case["wer"].get(corpus)) for corpus in CORPORA]
        lines.append(f"| {case['title']} | {' | '.join(cells)} | {case['rtf']:.3f} | {case['peak_rss_mib']:.0f} |")
    return "\n".join(lines)


def _rate(rate: Mapping[str, Any] | None) -> str:
    if rate is None:
        return ""
    if rate["low"] is None:
        return f"{100 * rate['value']:.1f}"
    return f"{100 * rate['value']:.1f} [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]"


def _precision(runs: list[Mapping[str, Any]]) -> str:
    """What FP16 and INT8 cost against FP32 on the same clips."""
    if not runs:
        return NOT_YET
    lines = [
        f"Difference of the word error rate against FP32 on the same clips, in points, with its 95 % interval. At most "
        f"{MARGIN} is allowed: *shown* where the whole interval is, *more* where none of it is, else *not shown*.",
        "",
        f"| case | {' | '.join(CORPORA)} |",
        f"|---|{'---|' * len(CORPORA)}",
    ]
    seen: set[str] = set()
    for case in (case for run in runs for case in run["cases"]):
        if case["status"] == "ok" and case["id"].endswith(LOWER) and case["id"] not in seen:
            seen.add(case["id"])
            cells = [_difference(case["wer_difference"].get(corpus)) for corpus in CORPORA]
            lines.append(f"| {case['title']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _difference(change: Mapping[str, Any] | None) -> str:
    if change is None:
        return ""
    value, low, high = (None if change[key] is None else 100 * change[key] for key in ("value", "low", "high"))
    assert value is not None
    if low is None or high is None:
        return f"{value:+.2f}"
    verdict = "shown" if high <= MARGIN else "more" if low > MARGIN else "not shown"
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}] {verdict}"


def _conditions(run: Mapping[str, Any] | None) -> str:
    """The mean over the corpora of the word error rate, by case and condition."""
    if run is None:
        return NOT_YET
    ok = [case for case in run["cases"] if case["status"] == "ok"]
    names = list(dict.fromkeys(corpus.partition("@")[2] for case in ok for corpus in case["wer"]))
    lines = [
        "Word error rate in %, the plain mean over the corpora (each corpus with its intervals is in the report).",
        "",
        f"| case | {' | '.join(name or 'clean' for name in names)} |",
        f"|---|{'---:|' * len(names)}",
    ]
    for case in ok:
        cells = []
        for name in names:
            rates = [rate["value"] for corpus, rate in case["wer"].items() if corpus.partition("@")[2] == name]
            cells.append(f"{100 * sum(rates) / len(rates):.1f}")
        lines.append(f"| {case['title']} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

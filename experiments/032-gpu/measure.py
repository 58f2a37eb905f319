"""What a GPU gives beside the CPU of the same machine: lanes of the streaming model, kernels, and the server on it.

    python experiments/032-gpu/measure.py                   # everything, about ten minutes
    python experiments/032-gpu/measure.py lanes server      # some sections
    python experiments/032-gpu/measure.py --words RUN       # the texts of a run of plan.toml beside each other
    python experiments/032-gpu/measure.py --show            # result.json into the README once more

Each section goes into `result.json` when it is done. Without a GPU nothing is measured and the exit code is 4.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # where the modules beside this script are, for a test as well

from gpu_tables import all_tables

from harness.documents import filled_in
from harness.fingerprint import fingerprint
from harness.gpu import about, measured
from harness.metrics.wer import corpus_wer, count_errors, paired_wer_difference
from harness.output import say
from pipelines.engines.api import has_gpu
from pipelines.paths import models_dir

RESULT, README = (Path(__file__).with_name(name) for name in ("result.json", "README.md"))
MODEL = "stream-ctc-server"
SECTIONS = ("lanes", "kernels", "server")


def main() -> None:
    """Measure, or show what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="section", help=f"of {', '.join(SECTIONS)}; all if none")
    parser.add_argument("--steps", type=int, default=200, help="steps of each batch size")
    parser.add_argument("--seconds", type=float, default=8.0, help="audio of each stream in a step of load")
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--words", type=Path, metavar="RUN", help="folder of a run of plan.toml; measures nothing else")
    parser.add_argument("--show", action="store_true", help="print the tables of the stored result")
    arguments = parser.parse_args()
    if wrong := set(arguments.sections) - set(SECTIONS):
        parser.error(f"no such section: {', '.join(sorted(wrong))}; have: {', '.join(SECTIONS)}")
    if arguments.words:
        result = json.loads(arguments.output.read_text("utf-8"))
        result["words"] = words(arguments.words)
        arguments.output.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    elif not arguments.show:
        if not has_gpu():
            print("nothing measured: there is no NVIDIA GPU on this machine", file=sys.stderr)
            sys.exit(4)
        measure(arguments.sections or list(SECTIONS), arguments.steps, arguments.seconds, arguments.output)
    made = all_tables(json.loads(arguments.output.read_text("utf-8")))
    print("\n\n".join(made.values()))
    if arguments.output == RESULT:
        README.write_text(filled_in(README.read_text("utf-8"), made), "utf-8")


def measure(sections: list[str], steps: int, seconds: float, output: Path) -> None:
    """Run sections; each replaces what the file has of it."""
    result = json.loads(output.read_text("utf-8")) if output.is_file() else {}
    run: dict[str, Callable[[], Any]] = {
        "lanes": lambda: measured(models_dir(), MODEL, steps, say),
        "kernels": _kernels,
        "server": lambda: _server(seconds),
    }
    for section in sections:
        where = {"fingerprint": fingerprint(models_dir(), [MODEL]), "gpu": about()}
        result[section] = where | run[section]()
        output.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


def words(run: Path) -> dict[str, Any]:
    """What the lanes of a run made of its clips, beside FP32 on a CPU: equal texts, and word errors in pairs."""
    clips = {clip["id"]: clip for clip in json.loads((run / "manifest.json").read_text("utf-8"))["utterances"]}
    texts: dict[str, dict[str, str]] = {}
    for line in (run / "samples.jsonl").read_text("utf-8").splitlines():
        sample = json.loads(line)
        if sample["phase"] == "steady":
            texts.setdefault(sample["case"], {})[sample["utterance"]] = sample["text"]
    base = texts.pop("stream-fp32")
    counts = [count_errors(clips[name]["text"], text) for name, text in base.items()]
    speakers = [clips[name]["speaker"] for name in base]
    lanes = {}
    for case, said in texts.items():
        difference = paired_wer_difference(
            counts, [count_errors(clips[name]["text"], said[name]) for name in base], speakers
        )
        lanes[case] = {
            "equal": sum(said[name] == text for name, text in base.items()),
            "difference": difference.value, "low": difference.low, "high": difference.high,
        }  # fmt: skip
    return {
        "run": run.name, "clips": len(base), "audio_s": sum(clips[name]["duration_s"] for name in base),
        "corpora": sorted({clips[name]["corpus"] for name in base}),
        "wer": corpus_wer(counts, speakers).value, "lanes": lanes,
    }  # fmt: skip


def _kernels() -> dict[str, Any]:
    import device_kernels

    return device_kernels.measured()


def _server(seconds: float) -> dict[str, Any]:
    """One stream for a minute, and the streams that one core serves, the model on the GPU or on that core."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "030-server-load"))
    import bars
    import contenders
    from measure import INT8, LIMIT_MS, amira, running, search  # of 030: this file runs as __main__

    from harness.load.scrape import scrape

    contenders.START_TIMEOUT_S = 400.0  # the first start compiles every size of step
    core, *others = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, others)
    gpu = ("--set", "recognizer.first.variants.acoustic=torch-cuda@fp16", "--set", "round_streams=16")
    servers = {"GPU, torch-cuda@fp16": amira(*gpu), "CPU, simd-stream@int8": amira(*INT8)}
    alone = {}
    for name, contender in servers.items():
        with running(contender, [core]) as server:
            before = scrape(server.url)
            one = server.step(1, 4 * seconds)
            alone[name] = {"one": one, "buckets": bars.buckets(before, scrape(server.url))}
    return {"alone": alone, "limit_ms": LIMIT_MS, "searches": search(servers, [core], seconds, LIMIT_MS, 64)}


if __name__ == "__main__":
    main()

"""Every decoder on the same log-probabilities, clip by clip in shuffled order: WER, time, memory, ratios.

    python experiments/015-decoders/sweep.py [--clips N] [--corpus NAME]... [--output sweep.json]

Needs the graph `reader` and its trigram (see README.md); peers and k2 that are not installed are rows with a reason.
The acoustic model runs once a clip and is timed, so that what a decoder takes can be put beside it. A decoder's ratio
to another one is the geometric mean over clips, with a bootstrap interval over clips; WER has one over speakers.
"""

from __future__ import annotations

import argparse
import json
import random
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

from harness.corpus import load_corpus
from harness.documents import filled_in
from harness.fingerprint import fingerprint
from harness.metrics.wer import WordErrors, corpus_wer, count_errors, paired_wer_difference
from pipelines import registry
from pipelines.contracts import AudioBatch, LogProbs
from pipelines.paths import models_dir
from pipelines.registry import Context

RESULT = Path(__file__).with_name("sweep.json")
README = Path(__file__).with_name("README.md")
CORPORA = [f"shared:dev/{name}" for name in ("librispeech", "commonvoice-v1", "speechocean762", "an4")]
LM = "build/languages/trained-4b7b6d5f570e9514.arpa"
TRIGRAM = {"lm": LM, "lm_weight": 0.5, "word_bonus": 1.5}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "greedy": ("greedy", {}),
    **{f"beam {width}": ("beam", {"width": width}) for width in (8, 32)},
    "pyctcdecode 32": ("pyctcdecode", {"width": 32}),
    "flashlight 32": ("flashlight-text", {"width": 32}),
    **{f"beam {width}, trigram": ("beam", {"width": width, **TRIGRAM}) for width in (2, 4, 8, 32, 128)},
    **{
        f"beam 32, trigram x {weight}": ("beam", {"width": 32, **TRIGRAM, "lm_weight": weight})
        for weight in (0.2, 0.35, 0.7, 1.0)
    },
    **{f"wfst {beam}": ("wfst", {"graph": "reader", "beam": float(beam)}) for beam in (4, 6, 8, 10, 12)},
    **{f"kaldi {beam}": ("kaldi-decoder", {"graph": "reader", "beam": float(beam)}) for beam in (6, 8, 12)},
    "k2 12": ("k2", {"graph": "reader", "beam": 12.0}),
}
RATIOS = [("pyctcdecode 32", "beam 32"), ("flashlight 32", "beam 32"), ("kaldi 12", "wfst 12"), ("k2 12", "wfst 12")]
RESAMPLES = 2000


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=30, help="clips of each corpus")
    parser.add_argument("--corpus", action="append", help=f"a corpus; if none is named: {', '.join(CORPORA)}")
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--show", action="store_true", help="measure nothing: write the stored result's tables")
    arguments = parser.parse_args()
    if arguments.show:
        show()
        return
    with ExitStack() as stack:
        parts: dict[str, Any] = {}
        context = Context(models_dir(), "moonshine-ctc", 1, parts)
        kernel = "avx512" if registry.get("kernel/avx512").available() is None else "scalar"
        parts["memory"] = stack.enter_context(registry.get("memory/pooled").open(context))
        parts["kernel"] = stack.enter_context(registry.get(f"kernel/{kernel}").open(context))
        parts["acoustic"] = stack.enter_context(registry.get("acoustic/ort@fp32").open(context))
        parts["acoustic"].warm_up()
        opened, memory, absent = {}, {}, {}
        for case, (name, options) in CASES.items():
            variant = registry.get(f"decoder/{name}")
            if problem := variant.available():
                absent[case] = f"{problem.reason} {problem.remedy}"
                continue
            before = _resident_mib()
            opened[case] = stack.enter_context(variant.open(context, **options))
            memory[case] = round(_resident_mib() - before, 1)
        rows = []
        for name in arguments.corpus or CORPORA:
            clips = load_corpus(name).select(max_clips=arguments.clips).clips
            if not rows:
                _row(clips[0], parts["acoustic"], opened)  # first calls pay for what is loaded late
            rows += [_row(clip, parts["acoustic"], opened) for clip in clips]
            print(f"{name}: {len(clips)} clips", flush=True)
    result = {
        "fingerprint": fingerprint(models_dir(), ["moonshine-ctc"]),
        "unavailable": absent,
        "memory_mib": memory,
        "summary": summary(rows, list(opened)),
        "clips": rows,
    }
    arguments.output.write_text(json.dumps(result) + "\n", "utf-8")
    print("\n".join(all_tables(result).values()))
    if arguments.output == RESULT:
        show()


def _resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def _row(clip: Any, model: Any, decoders: dict[str, Any]) -> dict[str, Any]:
    samples = np.frombuffer(clip.pcm16(), "<i2").astype(np.float32)[None] / 32768
    started = perf_counter_ns()
    held = model.infer(AudioBatch(samples, np.array([samples.shape[1]])))
    acoustic_ns = perf_counter_ns() - started
    log_probs = LogProbs(held.values.copy(), held.lengths.copy())
    found: dict[str, Any] = {}
    for case in random.Random(clip.id).sample(list(decoders), len(decoders)):
        started = perf_counter_ns()
        [[best, *_]] = decoders[case].decode(log_probs)
        took_ns = perf_counter_ns() - started
        counted = count_errors(clip.text, best.text)
        errors = [counted.hits, counted.substitutions, counted.deletions, counted.insertions]
        found[case] = {"ns": took_ns, "errors": errors}
    speaker = clip.speaker or clip.id
    row = {"corpus": clip.corpus, "id": clip.id, "speaker": speaker, "duration_s": clip.duration_s}
    return {**row, "acoustic_ns": acoustic_ns, "decoders": found}


def summary(rows: list[dict[str, Any]], cases: list[str]) -> dict[str, Any]:
    """WER by corpus with the change against greedy, times beside audio and acoustic model, and ratios."""
    found: dict[str, Any] = {"cases": {}, "ratios": {}}
    took = {case: np.array([row["decoders"][case]["ns"] for row in rows], np.float64) for case in cases}
    acoustic = np.array([row["acoustic_ns"] for row in rows], np.float64)
    audio = np.array([row["duration_s"] for row in rows]) * 1e9
    drawn = np.random.default_rng(0).integers(0, len(rows), (RESAMPLES, len(rows)))
    for case in cases:
        shares = {"of_audio": audio, "of_pipeline": acoustic + took[case]}
        line: dict[str, Any] = {"median_ms": round(float(np.median(took[case])) / 1e6, 3), "wer": {}, "change": {}}
        for name, whole in shares.items():
            draws = took[case][drawn].sum(axis=1) / whole[drawn].sum(axis=1)
            line[name] = _three(took[case].sum() / whole.sum(), *np.quantile(draws, (0.025, 0.975)))
        for corpus in dict.fromkeys(row["corpus"] for row in rows):
            mine = [row for row in rows if row["corpus"] == corpus]
            speakers = [row["speaker"] for row in mine]
            errors = [WordErrors(*row["decoders"][case]["errors"]) for row in mine]
            plain = [WordErrors(*row["decoders"]["greedy"]["errors"]) for row in mine]
            wer, change = corpus_wer(errors, speakers), paired_wer_difference(plain, errors, speakers)
            line["wer"][corpus] = _three(wer.value, wer.low, wer.high)
            line["change"][corpus] = _three(change.value, change.low, change.high)
        found["cases"][case] = line
    for slow, quick in RATIOS:
        if slow in took and quick in took:
            logs = np.log(took[slow] / took[quick])
            ends = np.exp(np.quantile(logs[drawn].mean(axis=1), (0.025, 0.975)))
            pair = [[WordErrors(*row["decoders"][case]["errors"]) for row in rows] for case in (quick, slow)]
            change = paired_wer_difference(pair[0], pair[1], [row["speaker"] for row in rows])
            found["ratios"][f"{slow} / {quick}"] = {
                "time": _three(np.exp(logs.mean()), *ends),
                "wer_change": _three(change.value, change.low, change.high),
            }
    return found


def _three(value: Any, low: Any, high: Any) -> list[float]:
    return [round(float(each), 5) for each in (value, low, high)]


def table(result: dict[str, Any]) -> str:
    """WER and cost of every decoder."""
    cases, memory = result["summary"]["cases"], result["memory_mib"]
    corpora = list(next(iter(cases.values()))["wer"])
    heads = [*(f"WER {name}" for name in corpora), "decode, ms a clip", "% of audio", "% of pipeline", "memory, MiB"]
    lines = [f"| decoder | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for case, line in cases.items():
        cells = [_percent(line["wer"][corpus], 1) for corpus in corpora]
        cells += [f"{line['median_ms']:.2f}", _percent(line["of_audio"], 2), _percent(line["of_pipeline"], 2)]
        lines.append(f"| {case} | {' | '.join(cells)} | {memory[case]:.0f} |")
    lines += [f"| {case} | {reason} |" + " |" * (len(heads) - 1) for case, reason in result["unavailable"].items()]
    return "\n".join(lines)


def ratio_table(result: dict[str, Any]) -> str:
    """Times of one decoder over another's, and what that does to WER."""
    lines = ["| ratio | time | WER, points |", "|---|---|---|"]
    for name, ratio in result["summary"]["ratios"].items():
        value, low, high = ratio["time"]
        lines.append(f"| {name} | {value:.1f} [{low:.1f}, {high:.1f}] | {_percent(ratio['wer_change'], 2)} |")
    return "\n".join(lines)


def change_table(result: dict[str, Any]) -> str:
    """The change of WER against greedy on the same utterances, in points."""
    cases = result["summary"]["cases"]
    corpora = list(next(iter(cases.values()))["change"])
    lines = [f"| decoder | {' | '.join(corpora)} |", "|---" * (len(corpora) + 1) + "|"]
    for case, line in cases.items():
        if case != "greedy":
            lines.append(f"| {case} | {' | '.join(_percent(line['change'][corpus], 1) for corpus in corpora)} |")
    return "\n".join(lines)


def all_tables(result: dict[str, Any]) -> dict[str, str]:
    """The tables of the README by their markers."""
    return {"sweep": table(result), "change": change_table(result), "ratios": ratio_table(result)}


def show() -> None:
    """Write the stored result's tables into the README."""
    tables = all_tables(json.loads(RESULT.read_text("utf-8")))
    README.write_text(filled_in(README.read_text("utf-8"), tables), "utf-8")


def _percent(three: list[float], places: int) -> str:
    value, low, high = (100 * each for each in three)
    return f"{value:.{places}f} [{low:.{places}f}, {high:.{places}f}]"


if __name__ == "__main__":
    main()

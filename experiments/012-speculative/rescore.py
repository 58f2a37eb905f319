"""What rescoring buys: WER of the CTC search, of its readings rescored by the attention decoder, and of that one alone.

    python experiments/012-speculative/rescore.py [--clips N] [--corpus NAME]... [--output rescore.json]

The n-best readings of `decoder/beam`, without and with the trigram of the training transcripts, are scored once by the
attention decoder; each weight then chooses among them. Intervals are over speakers, of clips where those are unknown;
changes are paired, against the search's own best reading.
"""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from harness.corpus import load_corpus
from harness.documents import filled_in
from harness.fingerprint import fingerprint
from harness.metrics.wer import WordErrors, corpus_wer, count_errors, paired_wer_difference
from pipelines import registry
from pipelines.contracts import AudioBatch, LogProbs
from pipelines.decode.aed_greedy import GreedyDecoder
from pipelines.decode.draft import written
from pipelines.decode.rescore import RescoringDecoder
from pipelines.paths import models_dir
from pipelines.registry import Context

RESULT = Path(__file__).with_name("rescore.json")
README = Path(__file__).with_name("README.md")
CORPORA = ["shared:dev/librispeech", "shared:dev/commonvoice-v1", "shared:dev/speechocean762"]
LM = "build/languages/trained-4b7b6d5f570e9514.arpa"
SEARCHES: dict[str, dict[str, Any]] = {"beam": {"nbest": 8}, "beam with trigram": {"nbest": 8, "lm": LM}}
WEIGHTS = (0.0, 0.3, 0.5, 0.7, 1.0)


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=60, help="clips of each corpus")
    parser.add_argument("--corpus", action="append", help=f"a corpus; if none is named: {', '.join(CORPORA)}")
    parser.add_argument("--acoustic", default="simd@fp32", help="how the attention model runs")
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--show", action="store_true", help="measure nothing: write the stored result's table")
    arguments = parser.parse_args()
    if arguments.show:
        show()
        return
    with ExitStack() as stack:
        parts: dict[str, Any] = {}
        context = Context(models_dir(), "moonshine-aed", 1, parts)
        parts["memory"] = stack.enter_context(registry.get("memory/pooled").open(context))
        parts["kernel"] = stack.enter_context(registry.get("kernel/scalar").open(context))
        aed = stack.enter_context(registry.get(f"acoustic/{arguments.acoustic}").open(context))
        ctc = Context(models_dir(), "moonshine-ctc", 1, {**parts})
        ctc.parts["acoustic"] = stack.enter_context(registry.get("acoustic/ort@fp32").open(ctc))
        searches = {
            name: stack.enter_context(registry.get("decoder/beam").open(ctc, **options))
            for name, options in SEARCHES.items()
        }
        rows = []
        for name in arguments.corpus or CORPORA:
            clips = load_corpus(name).select(max_clips=arguments.clips).clips
            rows += [_row(clip, aed, ctc.parts["acoustic"], searches) for clip in clips]
            print(f"{name}: {len(rows)} clips", flush=True)
    result = {
        "fingerprint": fingerprint(models_dir(), ["moonshine-aed", "moonshine-ctc"]),
        "acoustic": arguments.acoustic,
        "summary": summary(rows),
        "clips": rows,
    }
    arguments.output.write_text(json.dumps(result) + "\n", "utf-8")
    print("\n".join(table(result["summary"])))
    if arguments.output == RESULT:
        show()


def _row(clip: Any, aed: Any, ctc: Any, searches: dict[str, Any]) -> dict[str, Any]:
    samples = np.frombuffer(clip.pcm16(), "<i2").astype(np.float32)[None] / 32768
    batch = AudioBatch(samples, np.array([samples.shape[1]]))
    held = ctc.infer(batch)
    log_probs = LogProbs(held.values.copy(), held.lengths.copy())
    row: dict[str, Any] = {"corpus": clip.corpus, "id": clip.id, "speaker": clip.speaker or clip.id, "readings": {}}
    scorer = RescoringDecoder(aed, None, 1.0)
    with aed.encode(batch) as encoded:
        [best], _ = GreedyDecoder(aed).decode(encoded)
        row["attention"] = _errors(clip.text, best.text)
        for name, search in searches.items():
            [found] = search.decode(log_probs)
            row["readings"][name] = [
                {
                    "ctc": one.score,
                    "attention": scorer.log_prob(encoded, aed.vocabulary.encode(written(one.text.lower().split())))[0],
                    "errors": _errors(clip.text, one.text),
                }
                for one in found
            ]
    return row


def _errors(text: str, hypothesis: str) -> list[int]:
    counted = count_errors(text, hypothesis)
    return [counted.hits, counted.substitutions, counted.deletions, counted.insertions]


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each corpus and search: WER by weight, of the best of the readings, and of the attention decoder alone."""
    lines: list[dict[str, Any]] = []
    for corpus in dict.fromkeys(row["corpus"] for row in rows):
        mine = [row for row in rows if row["corpus"] == corpus]
        speakers = [row["speaker"] for row in mine]
        for search in SEARCHES:
            first = [WordErrors(*row["readings"][search][0]["errors"]) for row in mine]
            chosen = {"search": first}
            for weight in WEIGHTS:
                picked = (
                    max(row["readings"][search], key=lambda one: weight * one["attention"] + (1 - weight) * one["ctc"])
                    for row in mine
                )
                chosen[f"rescored, weight {weight:g}"] = [WordErrors(*one["errors"]) for one in picked]
            least = (min(row["readings"][search], key=lambda one: sum(one["errors"][1:])) for row in mine)
            chosen["the best reading (oracle)"] = [WordErrors(*one["errors"]) for one in least]
            chosen["attention decoder alone"] = [WordErrors(*row["attention"]) for row in mine]
            for name, errors in chosen.items():
                wer, change = corpus_wer(errors, speakers), paired_wer_difference(first, errors, speakers)
                lines.append(
                    {
                        "corpus": corpus,
                        "clips": len(mine),
                        "search": search,
                        "chosen": name,
                        "wer": [round(value, 4) for value in (wer.value, wer.low, wer.high)],
                        "change": [round(value, 4) for value in (change.value, change.low, change.high)],
                    }
                )
    return lines


def table(lines: list[dict[str, Any]]) -> list[str]:
    """The table of the README."""
    rows = []
    for line in lines:
        wer, change = ([100 * value for value in line[key]] for key in ("wer", "change"))
        rows.append(
            f"| {line['corpus']} | {line['search']} | {line['chosen']} | {wer[0]:.1f} [{wer[1]:.1f}, {wer[2]:.1f}] "
            f"| {change[0]:+.1f} [{change[1]:+.1f}, {change[2]:+.1f}] |"
        )
    return ["| corpus | readings of | chosen | WER, % | change, points |", "|---|---|---|---|---|", *rows]


def all_tables(result: dict[str, Any]) -> dict[str, str]:
    """The tables of the README by their markers."""
    return {"rescoring": "\n".join(table(result["summary"]))}


def show() -> None:
    """Write the stored result's tables into the README."""
    tables = all_tables(json.loads(RESULT.read_text("utf-8")))
    README.write_text(filled_in(README.read_text("utf-8"), tables), "utf-8")


if __name__ == "__main__":
    main()

"""Greedy decoding and the reading graph on the same log-probabilities, with the prompt as the expected text.

    python experiments/013-reading/measure.py [--clips N] [--output result.json]

Also with a text that is deliberately wrong in one word, to see whether the graph still hears what was really said:
another word in its place, one word more, one word less.
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
from harness.fingerprint import fingerprint
from harness.metrics.wer import corpus_wer, count_errors, paired_wer_difference
from pipelines import registry
from pipelines.contracts import AudioBatch, LogProbs
from pipelines.paths import models_dir
from pipelines.registry import Context

CORPUS = "shared:dev/speechocean762"
COSTS = {
    "default": {},
    "lenient": {"skip": 9, "misread": 6, "insert": 8, "letter": 3},
    "strict": {"skip": 5, "misread": 4, "insert": 6, "letter": 1.5},
}


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=None, help="clips; all if not given")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("result.json"))
    arguments = parser.parse_args()
    clips = load_corpus(CORPUS).select(max_clips=arguments.clips).clips
    words = sorted({word for clip in clips for word in clip.text.split()})
    with ExitStack() as stack:
        parts: dict[str, Any] = {}
        context = Context(models_dir(), "moonshine-ctc", 1, parts)
        parts["memory"] = stack.enter_context(registry.get("memory/pooled").open(context))
        parts["kernel"] = stack.enter_context(registry.get("kernel/scalar").open(context))
        parts["acoustic"] = stack.enter_context(registry.get("acoustic/ort@fp32").open(context))
        greedy = stack.enter_context(registry.get("decoder/greedy").open(context))
        readers = {
            name: stack.enter_context(registry.get("decoder/reading").open(context, **costs))
            for name, costs in COSTS.items()
        }
        rows = [_row(clip, parts["acoustic"], greedy, readers, words) for clip in clips]
    result = {"fingerprint": fingerprint(models_dir(), ["moonshine-ctc"]), "summary": summary(rows), "clips": rows}
    arguments.output.write_text(json.dumps(result) + "\n", "utf-8")
    print(json.dumps(result["summary"], indent=1))


def _row(clip: Any, model: Any, greedy: Any, readers: dict[str, Any], words: list[str]) -> dict[str, Any]:
    samples = np.frombuffer(clip.pcm16(), "<i2").astype(np.float32)[None] / 32768
    held = model.infer(AudioBatch(samples, np.array([samples.shape[1]])))
    log_probs = LogProbs(held.values.copy(), held.lengths.copy())
    [[plain, *_]] = greedy.decode(log_probs)
    row: dict[str, Any] = {"id": clip.id, "speaker": clip.speaker, "text": clip.text, "greedy": plain.text}
    change, wrong, place = _changed(clip.text, words, clip.id)
    row |= {"change": change, "readers": {}}
    for name, reader in readers.items():
        started = perf_counter_ns()
        decoder = reader.expecting(clip.text)
        built = perf_counter_ns()
        [[best]] = decoder.decode(log_probs)
        decoded = perf_counter_ns()
        [[other]] = reader.expecting(wrong).decode(log_probs)
        row["readers"][name] = {
            "text": best.text,
            "statuses": [word.status for word in best.reading],
            "build_ns": built - started,
            "decode_ns": decoded - built,
            "caught": _caught(change, place, other),
        }
    return row


def _changed(text: str, words: list[str], seed: str) -> tuple[str, str, int]:
    """A text that differs from what was read in one word: the kind of change, the text, and the place."""
    rng, said = random.Random(seed), text.split()
    kind, place = rng.choice(("other word", "word more", "word less")), rng.randrange(len(said))
    if kind == "word less" and len(said) > 1:
        return kind, " ".join(said[:place] + said[place + 1 :]), place
    if kind == "word more":
        return kind, " ".join([*said[:place], rng.choice(words), *said[place:]]), place
    others = [word for word in words if word != said[place] and abs(len(word) - len(said[place])) < 3]
    return "other word", " ".join([*said[:place], rng.choice(others), *said[place + 1 :]]), place


def _caught(change: str, place: int, best: Any) -> bool:
    """Whether the changed place is marked."""
    if change != "word less":
        return best.reading[place].status in ("misread", "skipped")
    near = best.reading[max(0, place - 1) : place + 1]
    # A word put in before the next one, or behind the last one: then it is in the text alone.
    return any(word.before or word.status == "misread" for word in near) or len(best.text.split()) > len(best.reading)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Error rates against the prompt with intervals over speakers, the change against greedy, and what was caught."""
    speakers = [row["speaker"] for row in rows]
    plain = [count_errors(row["text"], row["greedy"]) for row in rows]
    found: dict[str, Any] = {"clips": len(rows), "greedy": _interval(corpus_wer(plain, speakers))}
    for name in COSTS:
        mine = [row["readers"][name] for row in rows]
        errors = [count_errors(row["text"], reader["text"]) for row, reader in zip(rows, mine, strict=True)]
        statuses = [status for reader in mine for status in reader["statuses"]]
        kinds = sorted({row["change"] for row in rows})
        found[name] = {
            "wer": _interval(corpus_wer(errors, speakers)),
            "change": _interval(paired_wer_difference(plain, errors, speakers)),
            "statuses": {status: statuses.count(status) for status in ("read", "repeated", "misread", "skipped")},
            "caught": {
                kind: [
                    sum(row["readers"][name]["caught"] for row in rows if row["change"] == kind),
                    sum(row["change"] == kind for row in rows),
                ]
                for kind in kinds
            },
            "build_ms": round(float(np.median([reader["build_ns"] for reader in mine])) / 1e6, 2),
            "decode_ms": round(float(np.median([reader["decode_ns"] for reader in mine])) / 1e6, 2),
        }
    return found


def _interval(rate: Any) -> dict[str, float]:
    return {name: round(getattr(rate, name), 4) for name in ("value", "low", "high")}


if __name__ == "__main__":
    main()

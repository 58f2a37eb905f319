"""Greedy decoding and the reading graph on the same log-probabilities, with the prompt as the expected text.

    python experiments/013-reading/measure.py [--clips N] [--output result.json]

Also with a text that is deliberately wrong in one word, to see whether the graph still hears what was really said:
another word in its place, one word more, one word less.

And beside what another recogniser hears, the attention decoder, which knows nothing of the text: on which words of the
prompts do the two agree that they were read, or were not? `by-ear.md` lists twenty clips with marked words for somebody
to listen to.
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
from harness.metrics.normalise import normalise
from harness.metrics.wer import corpus_wer, count_errors, paired_wer_difference
from pipelines import registry
from pipelines.contracts import AudioBatch, LogProbs
from pipelines.decode.aed_greedy import GreedyDecoder
from pipelines.paths import models_dir
from pipelines.registry import Context

RESULT = Path(__file__).with_name("result.json")
README = Path(__file__).with_name("README.md")
CORPUS = "shared:dev/speechocean762"
KINDS = ("other word", "word more", "word less")
COSTS = {
    "default": {},
    "lenient": {"skip": 9, "misread": 6, "insert": 8, "letter": 3},
    "strict": {"skip": 5, "misread": 4, "insert": 6, "letter": 1.5},
}


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=None, help="clips; all if not given")
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--show", action="store_true", help="measure nothing: write the stored result's tables")
    arguments = parser.parse_args()
    if arguments.show:
        show()
        return
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
        aed = Context(models_dir(), "moonshine-aed", 1, {axis: parts[axis] for axis in ("memory", "kernel")})
        name = "simd@fp32" if registry.get("acoustic/simd@fp32").available() is None else "ort@fp32"
        attention = stack.enter_context(registry.get(f"acoustic/{name}").open(aed))
        rows = []
        for number, clip in enumerate(clips, 1):
            rows.append(_row(clip, parts["acoustic"], greedy, readers, words, attention))
            if number % 100 == 0:
                print(f"{number}/{len(clips)}", flush=True)
    result = {
        "fingerprint": fingerprint(models_dir(), ["moonshine-aed", "moonshine-ctc"]),
        "summary": summary(rows),
        "clips": rows,
    }
    arguments.output.write_text(json.dumps(result) + "\n", "utf-8")
    if arguments.output == RESULT:
        RESULT.with_name("by-ear.md").write_text(by_ear(rows), "utf-8")
        show()
    print(json.dumps(result["summary"], indent=1))


def _row(
    clip: Any, model: Any, greedy: Any, readers: dict[str, Any], words: list[str], attention: Any
) -> dict[str, Any]:
    samples = np.frombuffer(clip.pcm16(), "<i2").astype(np.float32)[None] / 32768
    batch = AudioBatch(samples, np.array([samples.shape[1]]))
    held = model.infer(batch)
    log_probs = LogProbs(held.values.copy(), held.lengths.copy())
    [[plain, *_]] = greedy.decode(log_probs)
    row: dict[str, Any] = {"id": clip.id, "speaker": clip.speaker, "text": clip.text, "greedy": plain.text}
    with attention.encode(batch) as encoded:
        [heard], _ = GreedyDecoder(attention).decode(encoded)
    row["attention"] = heard.text
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
            "said": [word.said for word in best.reading],
            "build_ns": built - started,
            "decode_ns": decoded - built,
            "caught": _caught(change, place, other),
        }
    return row


def _changed(text: str, words: list[str], seed: str) -> tuple[str, str, int]:
    """A text that differs from what was read in one word: the kind of change, the text, and the place."""
    rng, said = random.Random(seed), text.split()
    kind, place = rng.choice(KINDS), rng.randrange(len(said))
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


def heard_right(text: str, heard: str) -> list[bool]:
    """Which words of a text are in what was heard, by the cheapest alignment of the two."""
    import jiwer

    words = normalise(text).split()
    right = [False] * len(words)
    if said := normalise(heard):
        for chunk in jiwer.process_words(" ".join(words), said).alignments[0]:
            if chunk.type == "equal":
                right[chunk.ref_start_idx : chunk.ref_end_idx] = [True] * (chunk.ref_end_idx - chunk.ref_start_idx)
    return right


def agreement(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Words of the prompts by what the reading graph and the attention decoder say of them, and Cohen's kappa."""
    counts = {(marked, missed): 0 for marked in (True, False) for missed in (True, False)}
    for row in rows:
        statuses = row["readers"][name]["statuses"]
        right = heard_right(row["text"], row["attention"])
        if len(statuses) == len(right):  # else the normaliser has joined or split a word
            for status, ok in zip(statuses, right, strict=True):
                counts[status in ("misread", "skipped"), not ok] += 1
    total = sum(counts.values())
    same = (counts[True, True] + counts[False, False]) / total
    marked = (counts[True, True] + counts[True, False]) / total
    missed = (counts[True, True] + counts[False, True]) / total
    chance = marked * missed + (1 - marked) * (1 - missed)
    return {
        "words": total,
        "both_marked": counts[True, True],
        "graph_alone": counts[True, False],
        "attention_alone": counts[False, True],
        "neither": counts[False, False],
        "kappa": round((same - chance) / (1 - chance), 3),
    }


def by_ear(rows: list[dict[str, Any]]) -> str:
    """Twenty clips with marked words, drawn at random, one of a speaker, with room for what somebody hears."""
    marked = [row for row in rows if {"misread", "skipped"} & set(row["readers"]["default"]["statuses"])]
    random.Random(0).shuffle(marked)
    one_each = list({row["speaker"]: row for row in marked}.values())[:20]
    lines = [
        "# Twenty clips with marks of the default reading graph, to be listened to",
        "",
        "Written by `measure.py`. *Misread* words are followed by what was heard in their place.",
        "",
        "| clip | prompt | marked | attention decoder | by ear |",
        "|---|---|---|---|---|",
    ]
    for row in sorted(one_each, key=lambda row: str(row["id"])):
        reader = row["readers"]["default"]
        marks = [
            f"{word}: skipped" if status == "skipped" else f"{word}: {said}"
            for word, status, said in zip(row["text"].split(), reader["statuses"], reader["said"], strict=False)
            if status in ("misread", "skipped")
        ]
        lines.append(f"| {row['id']} | {row['text']} | {'; '.join(marks)} | {row['attention']} | |")
    return "\n".join(lines) + "\n"


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Error rates against the prompt with intervals over speakers, the change against greedy, and what was caught."""
    speakers = [row["speaker"] for row in rows]
    plain = [count_errors(row["text"], row["greedy"]) for row in rows]
    found: dict[str, Any] = {"clips": len(rows), "greedy": _interval(corpus_wer(plain, speakers))}
    independent = [count_errors(row["text"], row["attention"]) for row in rows]
    found["attention"] = _interval(corpus_wer(independent, speakers))
    for name in COSTS:
        found.setdefault("agreement", {})[name] = agreement(rows, name)
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


def wer_table(result: dict[str, Any]) -> str:
    """Error rates against the prompt, and what is caught of a text that is wrong in one word."""
    found = result["summary"]
    lines = [
        "| decoder | WER against the prompt (95 %) | change, points | other word marked | word more in the text "
        "| word less in the text |",
        "|---|---|---|---|---|---|",
        f"| greedy | {_percent(found['greedy'])} | | | | |",
        f"| attention decoder | {_percent(found['attention'])} | | | | |",
    ]
    for name in COSTS:
        one = found[name]
        caught = [f"{hits} of {all_}" for hits, all_ in (one["caught"][kind] for kind in KINDS)]
        change = _percent(one["change"]).replace(" %", "")
        lines.append(f"| reading, {name} | {_percent(one['wer'])} | {change} | {' | '.join(caught)} |")
    return "\n".join(lines)


def agreement_table(result: dict[str, Any]) -> str:
    """What the graph marks beside what the attention decoder does not hear."""
    lines = ["| costs | marked by both | by the graph alone | by the attention decoder alone | by neither | kappa |"]
    lines.append("|---|---|---|---|---|---|")
    for name, one in result["summary"]["agreement"].items():
        counts = [str(one[key]) for key in ("both_marked", "graph_alone", "attention_alone", "neither")]
        lines.append(f"| {name} | {' | '.join(counts)} | {one['kappa']:.2f} |")
    return "\n".join(lines)


def all_tables(result: dict[str, Any]) -> dict[str, str]:
    """The tables of the README by their markers."""
    return {"wer": wer_table(result), "agreement": agreement_table(result)}


def show() -> None:
    """Write the stored result's tables into the README."""
    tables = all_tables(json.loads(RESULT.read_text("utf-8")))
    README.write_text(filled_in(README.read_text("utf-8"), tables), "utf-8")


def _percent(rate: dict[str, float]) -> str:
    return f"{100 * rate['value']:.1f} % ({100 * rate['low']:.1f} to {100 * rate['high']:.1f})"


def _interval(rate: Any) -> dict[str, float]:
    return {name: round(getattr(rate, name), 4) for name in ("value", "low", "high")}


if __name__ == "__main__":
    main()

"""Plain and speculative decoding of the same clips by turns, one thread: is the text the same, and what does it cost?

    python experiments/012-speculative/measure.py [--clips N] [--corpus NAME]... [--errors RATE] [--output result.json]

Both decoders get the same encoder output, and only their own part is timed; the draft (a whole CTC recogniser) is
timed apart. The ratio of a corpus is the geometric mean over clips, with a bootstrap interval over clips.

With `--errors`, the draft is not a model's but the transcript with that share of its words damaged: what a better or
worse draft model would be worth.
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
from harness.metrics.normalise import normalise
from harness.metrics.wer import count_errors
from pipelines import registry
from pipelines.contracts import AudioBatch, EncoderDecoderModel, Hypothesis
from pipelines.decode.aed_greedy import GreedyDecoder
from pipelines.decode.speculative import SpeculativeDecoder, SpeculativeOptions, open_drafter
from pipelines.paths import models_dir
from pipelines.registry import Context

ACOUSTICS = {"ort@fp32": (3, 5, 7), "simd@fp32": (2, 3, 5), "ort@int8": (3, 5)}
"""Variants of the attention model, and the lengths of draft that are tried with each."""
RESAMPLES = 2000


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=25, help="clips of each corpus")
    parser.add_argument("--corpus", action="append", help="a corpus; librispeech and commonvoice-v1 if none is named")
    parser.add_argument("--errors", type=float, help="draft with the transcript, this share of its words damaged")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("result.json"))
    arguments = parser.parse_args()
    names = arguments.corpus or ["shared:dev/librispeech", "shared:dev/commonvoice-v1"]
    with ExitStack() as stack:
        parts: dict[str, Any] = {}
        context = Context(models_dir(), "moonshine-aed", 1, parts)
        parts["memory"] = stack.enter_context(registry.get("memory/pooled").open(context))
        parts["kernel"] = stack.enter_context(registry.get("kernel/scalar").open(context))
        models = {
            name: stack.enter_context(registry.get(f"acoustic/{name}").open(context))
            for name in ACOUSTICS
            if registry.get(f"acoustic/{name}").available() is None
        }
        drafter = stack.enter_context(open_drafter(context, SpeculativeOptions(draft_model="moonshine-ctc")))
        for model in models.values():
            model.warm_up()
        rows = []
        for name in names:
            clips = load_corpus(name).select(max_clips=arguments.clips).clips
            for number, clip in enumerate(clips, 1):
                rows.append(_row(clip, models, drafter, arguments.errors))
                print(f"{name} {number}/{len(clips)}", flush=True)
    result = {
        "fingerprint": fingerprint(models_dir(), ["moonshine-aed", "moonshine-ctc"]),
        "summary": summary(rows),
        "clips": rows,
    }
    arguments.output.write_text(json.dumps(result) + "\n", "utf-8")
    print(json.dumps(result["summary"], indent=1))


def _row(clip: Any, models: dict[str, EncoderDecoderModel], drafter: Any, damage: float | None) -> dict[str, Any]:
    samples = np.frombuffer(clip.pcm16(), "<i2").astype(np.float32)[None] / 32768
    batch = AudioBatch(samples, np.array([samples.shape[1]]))
    started = perf_counter_ns()
    [[draft, *_]] = drafter[1].decode(drafter[0].infer(batch))
    drafted_ns = perf_counter_ns() - started
    if damage is not None:
        draft = Hypothesis(damaged(clip.text, damage, clip.id), (), 0.0)
    row: dict[str, Any] = {"corpus": clip.corpus, "id": clip.id, "duration_s": clip.duration_s}
    row |= {"draft_ns": drafted_ns, "draft_errors": _errors(clip.text, draft), "models": {}}
    for name, model in models.items():
        decoders = {k: SpeculativeDecoder(model, None, k) for k in ACOUSTICS[name]}
        with model.encode(batch) as encoded:
            plain_ns: list[int] = []
            checks: dict[int, dict[str, Any]] = {}
            for k, decoder in decoders.items():
                started = perf_counter_ns()
                [plain], steps = GreedyDecoder(model).decode(encoded)
                between = perf_counter_ns()
                checked = decoder.checked(encoded, draft.text.split())
                checks[k] = {
                    "ns": perf_counter_ns() - between,
                    "plain_ns": between - started,
                    "same": checked.tokens == plain.tokens,
                    "passes": checked.passes,
                    "proposed": checked.proposed,
                    "accepted": checked.accepted,
                }
                plain_ns.append(between - started)
        row["models"][name] = {"steps": steps, "errors": _errors(clip.text, plain), "drafts": checks}
    return row


def damaged(text: str, rate: float, seed: str) -> str:
    """A text in which a share of the words is misspelled (most), left out or followed by another."""
    rng, words = random.Random(seed), []
    for word in normalise(text).split():
        hit = rng.random() / rate if rate else 1.0
        place = rng.randrange(len(word))
        if hit < 0.7:
            words.append(word[:place] + rng.choice("etaoinshr") + word[place + 1 :])
        elif hit < 0.85:
            continue
        else:
            words += [word, rng.choice(("the", "a", "and"))] if hit < 1 else [word]
    return " ".join(words)


def _errors(text: str, hypothesis: Hypothesis) -> list[int]:
    counted = count_errors(text, hypothesis.text)
    return [counted.errors, counted.reference_length]


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line for each corpus, model and length of draft."""
    lines = []
    for corpus in dict.fromkeys(row["corpus"] for row in rows):
        mine = [row for row in rows if row["corpus"] == corpus]
        for name in mine[0]["models"]:
            for k in ACOUSTICS[name]:
                checks = [row["models"][name]["drafts"][k] for row in mine]
                logs = np.log([check["plain_ns"] / check["ns"] for check in checks])
                drawn = np.random.default_rng(0).integers(0, len(logs), (RESAMPLES, len(logs)))
                low, high = np.exp(np.quantile(logs[drawn].mean(axis=1), (0.025, 0.975)))
                steps = sum(row["models"][name]["steps"] for row in mine)
                lines.append(
                    {
                        "corpus": corpus,
                        "clips": len(mine),
                        "acoustic": name,
                        "draft_tokens": k,
                        "speed_up": round(float(np.exp(logs.mean())), 3),
                        "low": round(float(low), 3),
                        "high": round(float(high), 3),
                        "same_text": sum(check["same"] for check in checks),
                        "tokens_per_pass": round(steps / sum(check["passes"] for check in checks), 3),
                        "acceptance": round(
                            sum(c["accepted"] for c in checks) / max(1, sum(c["proposed"] for c in checks)), 3
                        ),
                        "wer": _rate([row["models"][name]["errors"] for row in mine]),
                        "draft_wer": _rate([row["draft_errors"] for row in mine]),
                    }
                )
    return lines


def _rate(errors: list[list[int]]) -> float:
    return round(sum(found for found, _ in errors) / sum(words for _, words in errors), 4)


if __name__ == "__main__":
    main()

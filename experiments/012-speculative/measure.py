"""Plain and speculative decoding of the same clips by turns, one thread: is the text the same, and what does it cost?

    python experiments/012-speculative/measure.py [--clips N] [--corpus NAME]... [--acoustic NAME]... [--errors RATE]
    python experiments/012-speculative/measure.py --lossless     every dev clip of the corpora: the text alone

Both decoders get the same encoder output, and only their own part is timed; the draft is timed apart: `hear_ns` is the
CTC model, and `draft_ns` the decoder of each source. The ratio of a corpus is the geometric mean over clips, with a
bootstrap interval over clips.

Sources of drafts: `greedy`, `beam` (with the trigram of the training transcripts, `amira graph build`) and `english`
(with CMU Sphinx's English trigram, made once) decode the CTC model's output; `search` searches it again before each
pass, with the beam of `english`, behind what is written, and that time counts as the decoder's; `tokens` is the best
path of `moonshine-ctc-tokens`, which writes the attention model's own tokens; `text` is the text that the speaker was
to read. With `--errors`, that text has this share of its words damaged: what a better or worse draft model would be
worth.
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
from harness.metrics.wer import count_errors
from pipelines import registry
from pipelines.acoustic.moonshine import max_tokens
from pipelines.contracts import AudioBatch, EncoderDecoderModel, LogProbs
from pipelines.decode.aed_greedy import GreedyDecoder
from pipelines.decode.beam import BeamDecoder
from pipelines.decode.search_draft import PrefixSearch, SearchDraft
from pipelines.decode.speculative import SpeculativeDecoder
from pipelines.graphs import language
from pipelines.paths import home, models_dir
from pipelines.registry import Context

TRIALS = {
    "simd@int8": (("greedy", 5), ("beam", 5), ("english", 5), ("search", 5), ("tokens", 5), ("text", 5)),
    "simd@fp32": (("greedy", 2), ("beam", 3), ("search", 3), ("text", 5)),
    "ort@int8": (("greedy", 3), ("beam", 5), ("search", 5), ("text", 7)),
    "ort@fp32": (("greedy", 3), ("beam", 5), ("english", 5), ("search", 5), ("tokens", 5), ("text", 5)),
}
"""For each variant of the attention model: where drafts come from, and tokens that one pass checks at most."""
LOSSLESS_NAMES = ("simd@int8", "ort@fp32")
LOSSLESS_TRIAL = (("search", 5),)
ENGLISH_PRUNE = 3e-8
ENGLISH = {"width": 16, "threshold": 15.0, "token_floor": -9.0, "unknown_penalty": -20.0}
"""The search with the English trigram: words that it does not know are rarely right. With 32 prefixes drafts are no
better."""
SOURCES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "beam": {"width": 8, "lm": "build/languages/trained-4b7b6d5f570e9514.arpa"},
}
TOKENS = "moonshine-ctc-tokens"
RESULT = Path(__file__).with_name("result.json")
README = Path(__file__).with_name("README.md")
CORPORA = ["shared:dev/librispeech", "shared:dev/commonvoice-v1", "shared:dev/speechocean762"]
RESAMPLES = 2000


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, help="clips of each corpus; 25, and all with --lossless, if not given")
    parser.add_argument("--corpus", action="append", help=f"a corpus; if none is named: {', '.join(CORPORA)}")
    parser.add_argument("--acoustic", action="append", choices=TRIALS, help="a variant; all if none is named")
    parser.add_argument("--errors", type=float, help="damage this share of the words of the source 'text'")
    parser.add_argument("--lossless", action="store_true", help="all clips, the quick variants, the text alone")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--show", action="store_true", help="measure nothing: write the stored result's table")
    arguments = parser.parse_args()
    if arguments.show:
        show()
        return
    names = arguments.acoustic or (LOSSLESS_NAMES if arguments.lossless else TRIALS)
    trials = {name: LOSSLESS_TRIAL if arguments.lossless else TRIALS[name] for name in names}
    output = arguments.output or (RESULT.with_name("lossless.json") if arguments.lossless else RESULT)
    with ExitStack() as stack:
        opened = Opened(stack, list(trials))
        rows = []
        for name in arguments.corpus or CORPORA:
            clips = load_corpus(name).select(max_clips=arguments.clips or (None if arguments.lossless else 25)).clips
            for number, clip in enumerate(clips, 1):
                rows.append(_row(clip, opened, trials, arguments.errors))
                if number % 10 == 0 or number == len(clips):
                    print(f"{name} {number}/{len(clips)}", flush=True)
    lines = summary(rows, trials)
    result: dict[str, Any] = {"fingerprint": fingerprint(models_dir(), ["moonshine-aed", "moonshine-ctc", TOKENS])}
    if arguments.lossless:
        # Nothing was timed in peace: only the texts count.
        kept = ("corpus", "clips", "acoustic", "source", "draft_tokens", "same_text", "steps", "tokens_per_pass", "wer")
        result["summary"] = [{key: line[key] for key in kept} for line in lines]
        result["different"] = [
            [row["corpus"], row["id"], name]
            for row in rows
            for name, found in row["models"].items()
            if not all(check["same"] for check in found["trials"].values())
        ]
    else:
        result |= {"summary": lines, "clips": rows}
    output.write_text(json.dumps(result) + "\n", "utf-8")
    print("\n".join(table(lines)))
    if output == RESULT:
        show()


class Opened:
    """Everything that is measured: attention models by name, the CTC model, and decoders of its output by source."""

    def __init__(self, stack: ExitStack, names: list[str]) -> None:
        parts: dict[str, Any] = {}
        context = Context(models_dir(), "moonshine-aed", 1, parts)
        parts["memory"] = stack.enter_context(registry.get("memory/pooled").open(context))
        parts["kernel"] = stack.enter_context(registry.get("kernel/scalar").open(context))
        self.models: dict[str, EncoderDecoderModel] = {}
        for name in names:
            variant = registry.get(f"acoustic/{name}")
            if problem := variant.available():
                print(f"{name} is left out: {problem.reason}", flush=True)
                continue
            self.models[name] = stack.enter_context(variant.open(context))
            self.models[name].warm_up()
        ctc = Context(models_dir(), "moonshine-ctc", 1, {**parts})
        self.ctc = ctc.parts["acoustic"] = stack.enter_context(registry.get("acoustic/ort@fp32").open(ctc))
        self.ctc.warm_up()
        self.drafters = {
            name: stack.enter_context(registry.get(f"decoder/{name}").open(ctc, **options))
            for name, options in SOURCES.items()
        }
        english = language.english(home() / "build" / "languages", print, ENGLISH_PRUNE)
        self.beam: BeamDecoder = stack.enter_context(registry.get("decoder/beam").open(ctc, lm=str(english), **ENGLISH))
        self.drafters["english"] = self.beam
        tokens = Context(models_dir(), TOKENS, 1, {**parts})
        self.tokens = tokens.parts["acoustic"] = stack.enter_context(registry.get("acoustic/ort@fp32").open(tokens))
        self.tokens.warm_up()
        self.tokens_decoder = stack.enter_context(registry.get("decoder/greedy").open(tokens))


def _row(clip: Any, opened: Opened, trials: Any, damage: float | None) -> dict[str, Any]:
    samples = np.frombuffer(clip.pcm16(), "<i2").astype(np.float32)[None] / 32768
    batch = AudioBatch(samples, np.array([samples.shape[1]]))
    started = perf_counter_ns()
    heard = opened.ctc.infer(batch)
    log_probs = LogProbs(heard.values.copy(), heard.lengths.copy())
    row: dict[str, Any] = {"corpus": clip.corpus, "id": clip.id, "duration_s": clip.duration_s}
    row |= {"hear_ns": perf_counter_ns() - started, "draft_ns": {}, "draft_errors": {}, "models": {}}
    drafts = {"text": normalise(clip.text) if damage is None else damaged(clip.text, damage, clip.id)}
    for source, decoder in opened.drafters.items():
        started = perf_counter_ns()
        [[best, *_]] = decoder.decode(log_probs)
        row["draft_ns"][source] = perf_counter_ns() - started
        drafts[source] = best.text
    drafts["search"] = drafts["english"]
    started = perf_counter_ns()
    heard = opened.tokens.infer(batch)
    row["tokens_hear_ns"] = perf_counter_ns() - started
    [[best, *_]] = opened.tokens_decoder.decode(heard)
    drafts["tokens"] = best.text
    values = log_probs.values[0, : log_probs.lengths[0]]
    row["draft_errors"] = {source: _errors(clip.text, text) for source, text in drafts.items()}
    for name, model in opened.models.items():
        checks: dict[str, dict[str, Any]] = {}
        with model.encode(batch) as encoded:
            started = perf_counter_ns()
            with model.open(encoded, max_tokens(encoded.audio_s[0], model.max_tokens_per_s)):
                open_ns = perf_counter_ns() - started
            for source, size in trials[name]:
                decoder = SpeculativeDecoder(model, None, size)
                started = perf_counter_ns()
                [plain], steps = GreedyDecoder(model).decode(encoded)
                between = perf_counter_ns()
                if source == "search":
                    search = PrefixSearch(opened.beam, values)
                    draft = SearchDraft(search, model.vocabulary, opened.beam.frame_shift_s)
                    checked = decoder.followed(encoded, draft)
                else:
                    checked = decoder.checked(encoded, drafts[source].lower().split())
                checks[f"{source}-{size}"] = {
                    "ns": perf_counter_ns() - between,
                    "plain_ns": between - started,
                    "same": checked.tokens == plain.tokens,
                    "passes": checked.passes,
                    "proposed": checked.proposed,
                    "accepted": checked.accepted,
                }
        row["models"][name] = {
            "steps": steps,
            "open_ns": open_ns,
            "errors": _errors(clip.text, plain.text),
            "trials": checks,
        }
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


def _errors(text: str, hypothesis: str) -> list[int]:
    counted = count_errors(text, hypothesis)
    return [counted.errors, counted.reference_length]


def summary(rows: list[dict[str, Any]], trials: Any) -> list[dict[str, Any]]:
    """One line for each corpus, model, source and length of drafts."""
    lines = []
    for corpus in dict.fromkeys(row["corpus"] for row in rows):
        mine = [row for row in rows if row["corpus"] == corpus]
        for name in mine[0]["models"]:
            steps = sum(row["models"][name]["steps"] for row in mine)
            for source, size in trials[name]:
                checks = [row["models"][name]["trials"][f"{source}-{size}"] for row in mine]
                logs = np.log([check["plain_ns"] / check["ns"] for check in checks])
                drawn = np.random.default_rng(0).integers(0, len(logs), (RESAMPLES, len(logs)))
                low, high = np.exp(np.quantile(logs[drawn].mean(axis=1), (0.025, 0.975)))
                lines.append(
                    {
                        "corpus": corpus,
                        "clips": len(mine),
                        "acoustic": name,
                        "source": source,
                        "draft_tokens": size,
                        "speed_up": round(float(np.exp(logs.mean())), 3),
                        "low": round(float(low), 3),
                        "high": round(float(high), 3),
                        "same_text": sum(check["same"] for check in checks),
                        "steps": steps,
                        "step_ms": round(sum(check["plain_ns"] for check in checks) / steps / 1e6, 3),
                        "tokens_per_pass": round(steps / sum(check["passes"] for check in checks), 3),
                        "needed": _needed([row["models"][name] for row in mine], checks),
                        "acceptance": round(
                            sum(c["accepted"] for c in checks) / max(1, sum(c["proposed"] for c in checks)), 3
                        ),
                        "wer": _rate([row["models"][name]["errors"] for row in mine]),
                        "draft_wer": _rate([row["draft_errors"][source] for row in mine]),
                    }
                )
    return lines


def _needed(clips: list[dict[str, Any]], checks: list[dict[str, Any]]) -> float:
    """Tokens a pass that would make these clips twice as fast together, if a pass costs what it did.

    The clip's keys and values come once, however few passes there are.
    """
    opened_ns = sum(clip["open_ns"] for clip in clips)
    passes = sum(check["passes"] for check in checks)
    pass_ns = (sum(check["ns"] for check in checks) - opened_ns) / passes
    left_ns = sum(check["plain_ns"] for check in checks) / 2 - opened_ns
    return round(sum(clip["steps"] for clip in clips) * pass_ns / left_ns, 3)


def _rate(errors: list[list[int]]) -> float:
    return round(sum(found for found, _ in errors) / sum(words for _, words in errors), 4)


def table(lines: list[dict[str, Any]]) -> list[str]:
    """The table of the README."""
    heads = ("corpus", "acoustic", "draft", "tokens", "speed-up (95 %)", "tokens a pass", "accepted", "same text")
    heads += ("WER", "draft's WER")
    rows = [
        f"| {line['corpus']} | `{line['acoustic']}` | {line['source']} | {line['draft_tokens']} "
        f"| {line['speed_up']:.2f} ({line['low']:.2f} to {line['high']:.2f}) | {line['tokens_per_pass']:.2f} "
        f"| {100 * line['acceptance']:.0f} % | {line['same_text']} of {line['clips']} "
        f"| {100 * line['wer']:.1f} % | {100 * line['draft_wer']:.1f} % |"
        for line in lines
    ]
    return [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *rows]


def all_tables(result: dict[str, Any]) -> dict[str, str]:
    """The tables of the README by their markers."""
    again = json.loads(RESULT.with_name("result-search.json").read_text("utf-8"))
    stored = sorted(RESULT.parent.glob("lossless*.json"))
    lossless = [line for path in stored for line in json.loads(path.read_text("utf-8"))["summary"]]
    return {
        "speed-up": "\n".join(table(result["summary"])),
        "search": "\n".join(table(again["summary"])),
        "needed": "\n".join(needed_table(again["summary"])),
        "lossless": "\n".join(same_texts(lossless)),
    }


def needed_table(lines: list[dict[str, Any]]) -> list[str]:
    """How far each trial is from being twice as fast."""
    rows = [
        f"| {line['corpus']} | `{line['acoustic']}` | {line['source']} | {line['draft_tokens']} "
        f"| {line['tokens_per_pass']:.2f} | {line['needed']:.2f} |"
        for line in lines
    ]
    return ["| corpus | acoustic | draft | tokens | tokens a pass | needed for 2x |", "|---" * 6 + "|", *rows]


def same_texts(lines: list[dict[str, Any]]) -> list[str]:
    """The table of texts that are those of plain decoding."""
    rows = [
        f"| {line['corpus']} | `{line['acoustic']}` | {line['source']} | {line['draft_tokens']} "
        f"| {line['same_text']} of {line['clips']} | {line['tokens_per_pass']:.2f} |"
        for line in lines
    ]
    return ["| corpus | acoustic | draft | tokens | same text | tokens a pass |", "|---" * 6 + "|", *rows]


def show() -> None:
    """Write the stored result's tables into the README."""
    tables = all_tables(json.loads(RESULT.read_text("utf-8")))
    README.write_text(filled_in(README.read_text("utf-8"), tables), "utf-8")


if __name__ == "__main__":
    main()

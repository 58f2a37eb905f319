"""The recognised text of a few utterances, case beside case, with the word differences marked."""

from __future__ import annotations

from dataclasses import dataclass

from harness.measured import measured_cases
from harness.records import Utterance
from harness.store import Run

MOST_UTTERANCES = 5


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of words: `same`, `substituted` (for `reference`), `inserted`, or `deleted` (only in the reference)."""

    kind: str
    text: str
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """What some cases, all alike, made of an utterance.

    Attributes:
        label: Who read so: titles, or how many of the others.
        cases: Titles of the cases.
        pieces: The words, compared with the reference after normalisation.
        errors: Word errors; `None` without a reference.
    """

    label: str
    cases: tuple[str, ...]
    pieces: tuple[Piece, ...]
    errors: int | None


@dataclass(frozen=True, slots=True)
class Example:
    """An utterance with its readings, the largest group of cases last."""

    utterance: str
    corpus: str
    duration_s: float
    reference: str | None
    readings: tuple[Reading, ...]


def examples(run: Run) -> list[Example]:
    """The utterances on which the cases differ most, then those with most errors; at least one where any exists.

    Utterances without a reference are shown only where the run has no references at all.
    """
    from harness.metrics.normalise import normalise

    cases = measured_cases(run)
    scored = any(row.text is not None for row in run.utterances.values())
    texts = {name: case.texts() for name, case in cases.items()}
    found = []
    for utterance in run.utterances.values():
        if scored and utterance.text is None:
            continue
        groups: dict[str, list[str]] = {}
        for name, case in cases.items():
            if utterance.id in texts[name]:
                groups.setdefault(normalise(texts[name][utterance.id]), []).append(case.entry.case.title)
        if groups:
            found.append(_example(utterance, groups))
    found.sort(key=lambda example: (-len(example.readings), -sum(r.errors or 0 for r in example.readings)))
    return found[:MOST_UTTERANCES]


def _example(utterance: Utterance, groups: dict[str, list[str]]) -> Example:
    from harness.metrics.normalise import normalise

    reference = None if utterance.text is None else normalise(utterance.text)
    total = sum(len(titles) for titles in groups.values())
    smallest_first = sorted(groups.items(), key=lambda group: len(group[1]))
    readings = tuple(_reading(titles, total, text, reference) for text, titles in smallest_first)
    return Example(utterance.id, utterance.corpus, utterance.duration_s, reference, readings)


def _reading(cases: list[str], total: int, text: str, reference: str | None) -> Reading:
    label = _label(cases, total)
    if not reference:
        return Reading(label, tuple(cases), (Piece("same", text),) if text else (), None)
    pieces = align(reference, text)
    return Reading(label, tuple(cases), pieces, sum(_errors(piece) for piece in pieces))


def _label(cases: list[str], total: int) -> str:
    """Titles while they are few; a majority is named by its number."""
    if len(cases) <= 2:
        return ", ".join(cases)
    if len(cases) == total:
        return f"All {total} cases"
    return f"The other {len(cases)} cases" if len(cases) > total / 2 else ", ".join(cases)


def align(reference: str, hypothesis: str) -> tuple[Piece, ...]:
    """The hypothesis word by word against the reference, both normalised, by least edits.

    Args:
        reference: Words separated by blanks, at least one.
        hypothesis: Words separated by blanks, or nothing.
    """
    if not hypothesis:
        return (Piece("deleted", reference),)
    import jiwer

    result = jiwer.process_words(reference, hypothesis)
    expected, heard = reference.split(), hypothesis.split()
    kinds = {"equal": "same", "substitute": "substituted", "insert": "inserted", "delete": "deleted"}
    pieces = []
    for chunk in result.alignments[0]:
        kind = kinds[chunk.type]
        wanted = " ".join(expected[chunk.ref_start_idx : chunk.ref_end_idx])
        said = " ".join(heard[chunk.hyp_start_idx : chunk.hyp_end_idx])
        pieces.append(Piece(kind, wanted if kind == "deleted" else said, wanted if kind == "substituted" else ""))
    return tuple(pieces)


def _errors(piece: Piece) -> int:
    return 0 if piece.kind == "same" else len(piece.text.split())

"""What is confused: the most frequent substitutions, deletions and insertions of words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from harness.metrics.normalise import normalise

MOST = 12
"""Rows of each list."""


def confusions(pairs: Iterable[tuple[str, str]], most: int = MOST) -> dict[str, list[dict[str, Any]]]:
    """The most frequent word errors of (reference, hypothesis) pairs; both sides are normalised first.

    A stretch of words that became a stretch of another length counts as substitutions as far as both go, which is how
    the error rate counts it.
    """
    import jiwer

    substituted: Counter[tuple[str, str]] = Counter()
    deleted: Counter[str] = Counter()
    inserted: Counter[str] = Counter()
    for reference, hypothesis in pairs:
        expected, heard = normalise(reference).split(), normalise(hypothesis).split()
        if not expected:
            inserted.update(heard)
            continue
        for chunk in jiwer.process_words(" ".join(expected), " ".join(heard)).alignments[0]:
            wanted = expected[chunk.ref_start_idx : chunk.ref_end_idx]
            said = heard[chunk.hyp_start_idx : chunk.hyp_end_idx]
            if chunk.type == "substitute":
                substituted.update(zip(wanted, said, strict=True))
            elif chunk.type == "delete":
                deleted.update(wanted)
            elif chunk.type == "insert":
                inserted.update(said)
    return {
        "substituted": [{"word": a, "became": b, "count": n} for (a, b), n in _top(substituted, most)],
        "deleted": [{"word": word, "count": n} for word, n in _top(deleted, most)],
        "inserted": [{"word": word, "count": n} for word, n in _top(inserted, most)],
    }


def _top(counter: Counter[Any], most: int) -> list[tuple[Any, int]]:
    """The largest counts, equal ones in alphabetical order."""
    return sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:most]

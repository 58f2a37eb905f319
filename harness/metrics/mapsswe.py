"""The matched-pair test for word errors, MAPSSWE: whether two systems differ on the same speech.

Words that go together fail together, so single words are no independent trials. Both systems' alignments with the
reference are cut where both got at least two words in a row right; the stretches between that hold an error of either
system are the segments, and their differences in errors are taken as independent. The statistic is the mean
difference over its standard error, two-sided normal (Gillick and Cox, ICASSP 1989; the procedure is that of NIST's
scoring toolkit, with its default of two words).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt

import numpy as np

from harness.metrics.normalise import normalise

GOOD_WORDS = 2


@dataclass(frozen=True, slots=True)
class MatchedPairs:
    """What the test says.

    Attributes:
        segments: Stretches with an error of either system.
        mean: Errors of the second less those of the first, for each segment.
        z: The statistic; 0 where no segment differs.
        p_value: Two-sided; `None` where no segment differs, or there is one segment only.
    """

    segments: int
    mean: float
    z: float
    p_value: float | None


def matched_pairs(rows: Iterable[tuple[str, str, str]]) -> MatchedPairs:
    """Compare two systems.

    Args:
        rows: Reference, first system's text, second system's text of each utterance; all are normalised first. An
            utterance without a reference word is left out.
    """
    from scipy.stats import norm

    pairs = [pair for row in rows for pair in segments(*row)]
    differences = np.array([second - first for first, second in pairs], np.float64)
    count = len(differences)
    if not differences.any():
        return MatchedPairs(count, 0.0, 0.0, None)
    mean = float(differences.mean())
    if count < 2:
        return MatchedPairs(count, mean, 0.0, None)
    deviation = float(differences.std(ddof=1))
    z = mean / (deviation / sqrt(count)) if deviation else float(np.copysign(np.inf, mean))
    return MatchedPairs(count, mean, z, float(2 * norm.sf(abs(z))))


def segments(reference: str, first: str, second: str) -> list[tuple[int, int]]:
    """Errors of the first and of the second system in each segment of one utterance."""
    words = normalise(reference).split()
    if not words:
        return []
    errors = [_errors_by_place(words, normalise(text).split()) for text in (first, second)]
    found: list[tuple[int, int]] = []
    current, good = [0, 0], GOOD_WORDS
    # Place 2 w is the gap before word w, where insertions are; place 2 w + 1 is the word itself.
    for place in range(2 * len(words) + 1):
        wrong = [side[place] for side in errors]
        if any(wrong):
            good = 0
            current = [current[side] + wrong[side] for side in range(2)]
        elif place % 2:
            good += 1
            if good == GOOD_WORDS and any(current):
                found.append((current[0], current[1]))
                current = [0, 0]
    return [*found, (current[0], current[1])] if any(current) else found


def _errors_by_place(words: list[str], said: list[str]) -> list[int]:
    """Errors at each word and in each gap of the reference: (2 * words + 1)."""
    errors = [0] * (2 * len(words) + 1)
    if not said:
        errors[1::2] = [1] * len(words)
        return errors
    import jiwer

    for chunk in jiwer.process_words(" ".join(words), " ".join(said)).alignments[0]:
        if chunk.type == "insert":
            errors[2 * chunk.ref_start_idx] += chunk.hyp_end_idx - chunk.hyp_start_idx
        elif chunk.type != "equal":
            for word in range(chunk.ref_start_idx, chunk.ref_end_idx):
                errors[2 * word + 1] += 1
    return errors

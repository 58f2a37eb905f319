"""From tokens to words with times."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.contracts import CtcVocabulary, Word


def timed_words(
    vocabulary: CtcVocabulary,
    tokens: Sequence[int],
    frames: Sequence[Sequence[int]],
    confidences: Sequence[float],
    frame_shift_s: float,
) -> tuple[Word, ...]:
    """The words of a token sequence.

    A word lasts from the first frame of its first token to the end of the last frame of its last one. Its confidence
    is that of its least certain token.

    Args:
        vocabulary: What the tokens mean.
        tokens: Token ids.
        frames: First and last frame of each, both inclusive.
        confidences: The probability of each.
        frame_shift_s: Seconds from one frame to the next.
    """
    words: list[Word] = []
    text, members = "", list[int]()

    def close() -> None:
        nonlocal text
        if text:
            start_s, end_s = frames[members[0]][0] * frame_shift_s, (frames[members[-1]][1] + 1) * frame_shift_s
            words.append(Word(text, start_s, end_s, min(confidences[index] for index in members)))
        text = ""
        members.clear()

    for index, token in enumerate(tokens):
        for position, part in enumerate(vocabulary.piece(token).split(" ")):
            if position:
                close()
            if part:
                text += part
                members.append(index)
    close()
    return tuple(words)

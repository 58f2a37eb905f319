"""Drafts: what an attention decoder would probably write, guessed from the words of a CTC model."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Protocol

from pipelines.contracts import AedVocabulary

_ENDS = ".!?"
_STOPS = (*_ENDS, ",", ";", ":", '"')
_WRITTEN = {
    "i": "I",
    "i'm": "I'm",
    "i'll": "I'll",
    "i've": "I've",
    "i'd": "I'd",
    "mister": "Mr.",
    "missus": "Mrs.",
    "doctor": "Dr.",
}
"""How an attention decoder writes words of a normalised text, sentence beginnings apart."""
_SHORT_ENDS = frozenset(("s", "t", "d", "m", "ll", "re", "ve"))
"""What may follow an apostrophe; a CTC model that is unsure leaves the apostrophe out."""
_COMMA_BEFORE = frozenset(("but", "although", "though", "however", "especially"))
_COMMA_AFTER = frozenset(("yes", "well", "oh", "sir", "however"))
"""Words that the attention decoder mostly sets a comma before or after, in what it makes of training speech."""
_SPOKEN = {written_: word for word, written_ in _WRITTEN.items() if written_.endswith(".")}
_TITLES = tuple(_SPOKEN)


def written(words: Sequence[str]) -> str:
    """A text in lower case as an attention decoder may write it: as one sentence."""
    text = " ".join(_WRITTEN.get(word, word) for word in words)
    return f"{text[0].upper()}{text[1:]}{_ENDS[0]}" if text else ""


class Draft(Protocol):
    """Guesses what comes next from what was really written so far."""

    def ahead(self, tokens: Sequence[int], count: int) -> list[int]:
        """At most `count` tokens that may follow `tokens`; the calls of one draft have ever longer texts."""
        ...


def continued(
    vocabulary: AedVocabulary,
    last: str,
    before: str,
    ahead: Sequence[int],
    words: Sequence[str],
    count: int,
    *,
    pauses: Container[int] = (),
    ended: bool = True,
) -> list[int]:
    """At most `count` tokens of a text that goes on with `words`, with commas, capitals and the stop at its end.

    Args:
        vocabulary: The tokens of the decoder that is helped.
        last: The last written word, with what is behind it; empty at the beginning.
        before: The word before `words`, in lower case without punctuation.
        ahead: Tokens that complete the last word.
        words: What follows it, in lower case without punctuation.
        count: Tokens at most.
        pauses: Which of `words` the speaker paused before.
        ended: The text ends behind `words`.
    """
    found = list(ahead)
    # A capital begins the text and every sentence.
    capital = not ahead and (not last or (last.endswith(tuple(_ENDS)) and last not in _TITLES))
    follows = bool(found or last) and not capital and (bool(found) or not closes(last))
    for index, word in enumerate(words):
        if len(found) >= count:
            break
        if follows and (index in pauses or word in _COMMA_BEFORE or before in _COMMA_AFTER):
            found += vocabulary.encode(",", begins_word=False)
        spelled = _WRITTEN.get(word, word)
        found += vocabulary.encode(spelled[0].upper() + spelled[1:] if capital else spelled)
        capital, follows, before = False, True, word
    if ended and len(found) < count and (found or not last.endswith(tuple(_ENDS))):
        found += vocabulary.encode(_ENDS[0], begins_word=False)
    return found[:count]


def completed(vocabulary: AedVocabulary, last: str, rest: str, tokens: Sequence[int]) -> list[int]:
    """The tokens of `rest` behind those of the word that it completes, the last of `tokens`.

    Where the whole word would begin with other tokens, the decoder meant another: perhaps one with an apostrophe
    ("world" and "s").
    """
    if not rest:
        return []
    begun: list[int] = []
    for token in reversed(tokens):
        begun.insert(0, token)
        if vocabulary.begins_word(token):
            break
    for end in (rest, f"'{rest}") if rest in _SHORT_ENDS else (rest,):
        whole = vocabulary.encode(last + end)
        if whole[: len(begun)] == begun:
            return whole[len(begun) :]
    return vocabulary.encode(rest, begins_word=False)


def closes(word: str) -> bool:
    """Whether a written word ends with what no more letters follow."""
    return word.endswith(_STOPS)


def spoken(text: str) -> list[str]:
    """The words of a written text as drafts have them: in lower case, without punctuation, titles in full."""
    return [word for written_ in text.split() if (word := _SPOKEN.get(written_) or letters_of(written_))]


class WordDraft:
    """Guesses what comes next, from a draft in lower case without punctuation and what was really written so far.

    The two are aligned word by word (edit distance), so that after a word that the draft has wrong, or a comma that it
    could not know of, it is followed again from the right place.

    Args:
        words: The draft, in lower case.
        vocabulary: The tokens of the decoder that is helped.
    """

    def __init__(self, words: Sequence[str], vocabulary: AedVocabulary) -> None:
        self._words, self._vocabulary = tuple(words), vocabulary
        self._distances = list(range(len(words) + 1))
        self._aligned = 0

    def ahead(self, tokens: Sequence[int], count: int) -> list[int]:
        """At most `count` tokens that may follow `tokens`."""
        written = self._vocabulary.text(tokens).split()
        for word in written[self._aligned : len(written) - 1]:
            self._distances = self._after(word)
            self._aligned += 1
        last = written[-1] if written else ""
        ahead, position = self._rest_of(last, tokens)
        before = self._words[position - 1] if ahead else letters_of(last)
        return continued(self._vocabulary, last, before, ahead, self._words[position:], count)

    def _rest_of(self, last: str, tokens: Sequence[int]) -> tuple[list[int], int]:
        """The tokens that complete the last written word, and the draft's word after it."""
        letters = letters_of(last)
        here = self._positions(self._distances)
        if not last:
            return [], here[0]
        if letters and not closes(last):
            begun = [
                (_begun(letters, self._words[position]), position)
                for position in (*here, here[0] + 1)
                if position < len(self._words)
            ]
            if begun:
                (distance, size), position = min(begun, key=lambda item: item[0][0])
                if distance <= len(letters) // 3:
                    rest = completed(self._vocabulary, last, self._words[position][size:], tokens)
                    return rest, position + 1
        return [], self._positions(self._after(last))[0]

    def _after(self, word: str) -> list[int]:
        """Edit distances of what is written and `word` to each beginning of the draft."""
        letters, before = letters_of(word), self._distances
        if not letters:
            return before
        here = before[0] + 1
        after = [here]
        for drafted, diagonal, above in zip(self._words, before, before[1:], strict=False):
            change = diagonal if drafted == letters else diagonal + 1
            here = (here if here < above else above) + 1
            here = change if change < here else here
            after.append(here)
        return after

    def _positions(self, distances: Sequence[int]) -> list[int]:
        """The beginnings of the draft that are nearest to what is written, the longest first."""
        least = min(distances)
        return [index for index in range(len(distances) - 1, -1, -1) if distances[index] == least]


def _begun(letters: str, word: str) -> tuple[int, int]:
    """The beginning of `word` that `letters` is nearest to: edit distance, and its length (the longest of equals)."""
    if word.startswith(letters):
        return 0, len(letters)
    before = list(range(len(word) + 1))
    for letter in letters:
        after = [before[0] + 1]
        for index, other in enumerate(word):
            after.append(min(before[index] + (letter != other), before[index + 1] + 1, after[-1] + 1))
        before = after
    least = min(before)
    return least, max(index for index, distance in enumerate(before) if distance == least)


def letters_of(word: str) -> str:
    """A word as drafts have it."""
    return "".join(sign for sign in word.lower() if sign.isalpha() or sign == "'")

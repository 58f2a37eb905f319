"""Drafts by searching a CTC model's output again, behind what the attention decoder has really written.

A finished draft goes wrong at its first wrong word: the words behind it were chosen to fit it, and how the right word
goes on is not in it. Here the written text is the beginning of every reading (its probability at each frame is kept,
`kernels.ctc_prefix`), and a prefix beam search goes on from where it ends, in the lexicon tree from the letters that
are written and in the n-gram from the words that are. It goes only as far as one pass needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines.contracts import AedVocabulary, Float32, Hypothesis
from pipelines.decode.beam import BeamDecoder
from pipelines.decode.ctc import IMPOSSIBLE
from pipelines.decode.draft import closes, completed, continued, spoken
from pipelines.errors import AmiraError

TOKEN_S = 0.4
"""What one token of the draft takes at most, on average; the search goes so far for each."""
MARGIN_S = 0.4
TOKEN_LABELS, MARGIN_LABELS = 5, 8
"""The same in labels, of which the best of every frame tell how many there are: a quick speaker needs less time."""
COMMA_S = 0.34
"""A pause of this length is likelier than not to be written as a comma or a stop, in what the attention decoder makes
of training speech."""


@dataclass(frozen=True, slots=True)
class Heard(Hypothesis):
    """A reading, and the log-probabilities that it was read from: float32 (frames, labels)."""

    log_probs: Float32 = field(kw_only=True, repr=False, compare=False)


class _Said(NamedTuple):
    """A text, and where it leads.

    `ends`, `window`: see `kernels.ctc_prefix.extend`; `spelling`, `context`: columns of a node in
    `kernels.ctc_prefix_beam`.
    """

    text: str
    ends: npt.NDArray[np.float64]
    window: npt.NDArray[np.int64]
    last: int
    spelling: int
    context: int


@dataclass(frozen=True, slots=True)
class Continuation:
    """What probably follows a text.

    Attributes:
        text: Letters and spaces; the first letters may belong to the last word of the text.
        pauses_s: For each word in it, how long the speaker was silent before it, in seconds; may be empty.
        ended: It goes to the end of the clip; else its last word may lack letters.
    """

    text: str
    pauses_s: tuple[float, ...]
    ended: bool


class PrefixSearch:
    """Searches one clip behind a text that grows.

    Args:
        decoder: Whose n-gram, weights and width are used.
        log_probs: float32 (frames, labels), contiguous.

    Raises:
        AmiraError: The labels of the CTC model are no characters with a space between words.
    """

    def __init__(self, decoder: BeamDecoder, log_probs: Float32) -> None:
        from kernels import ctc_prefix

        if decoder.space < 0:
            raise AmiraError(
                "search_again needs a CTC model with a label for the space between words; leave it out with this one"
            )
        self._decoder = decoder
        self._log_probs = np.ascontiguousarray(np.maximum(log_probs, IMPOSSIBLE))
        self._extend = ctc_prefix.extend().call
        vocabulary = decoder.vocabulary
        self._labels = {vocabulary.piece(label): label for label in range(len(vocabulary)) if label != vocabulary.blank}
        labels = self._log_probs.argmax(axis=1)
        best = self._log_probs[np.arange(len(labels)), labels].astype(np.float64)
        begun = (labels != vocabulary.blank) & (labels != np.append(-1, labels[:-1]))
        self._heard = np.append(0, np.cumsum(begun))
        """For each number of frames: how many labels the best of every frame say."""
        self._rest = np.append(np.cumsum(best[::-1])[::-1], 0.0)
        """For each number of frames: the log-probability of the best that can follow."""
        ends = np.full((len(best) + 1, 2), -np.inf)
        ends[0, 0] = 0
        ends[1:, 0] = np.cumsum(self._log_probs[:, vocabulary.blank], dtype=np.float64)
        model = decoder.language_model
        so_far = ends[:, 0] + self._rest  # falls: before the first word it is silent
        silent = int((so_far >= so_far[0] - ctc_prefix.FAR).sum()) - 1
        window = np.array([0, silent], np.int64)
        self._said = [_Said("", ends, window, -1, 0, model.start if model else -1)]
        most, width = len(best), decoder.options.width
        self._nodes, self._node_scores = np.empty((1 + most * width, 7), np.int32), np.zeros(1 + most * width)

    def say(self, text: str) -> None:
        """Set the text so far: letters of the model and single spaces; others are passed over."""
        while not text.startswith(self._said[-1].text):
            self._said.pop()
        for place in range(len(self._said[-1].text), len(text)):
            self._said.append(self._and(text[place], text[: place + 1]))

    def search(self, frames: int, labels: int) -> Continuation | None:
        """What follows in the next `frames` frames or `labels` labels; `None` where the clip is too short."""
        from kernels.ctc_prefix_beam import BEAM, CONTEXT, NODES, SPELLING, TOKEN, path

        said, decoder, options = self._said[-1], self._decoder, self._decoder.options
        low, high = said.window.tolist()
        sums = np.logaddexp(said.ends[low : high + 1, 0], said.ends[low : high + 1, 1])
        place = int((sums + self._rest[low : high + 1]).argmax()) if len(sums) else 0
        if not len(sums) or sums[place] == -np.inf:
            return None
        start, begun = low + place, sums[place]
        stop = min(len(self._log_probs), start + frames, int(self._heard.searchsorted(self._heard[start] + labels)))
        width = options.width
        nodes, node_scores = self._nodes, self._node_scores
        beam, beam_scores, state = np.zeros(width, np.int32), np.full((width, 2), -np.inf), np.zeros(3, np.int64)
        state[NODES] = state[BEAM] = 1
        nodes[0], node_scores[0] = -1, 0.0
        nodes[0, TOKEN] = decoder.space if said.last < 0 else said.last
        nodes[0, SPELLING], nodes[0, CONTEXT] = said.spelling, said.context
        beam_scores[0] = said.ends[start] - begun
        model, tree = decoder.language_model, (nodes, node_scores, beam, beam_scores, state)
        if stop > start:
            decoder.advance(
                self._log_probs[start:stop], decoder.vocabulary.blank, decoder.space, width, options.threshold,
                options.token_floor, 0, options.lm_weight, options.word_bonus, decoder.unknown, *decoder.ngram, *tree,
            )  # fmt: skip
        totals = np.empty(width)
        end = model.end if model else -1
        ended = stop == len(self._log_probs)
        if ended:
            size = decoder.close(
                options.lm_weight, options.word_bonus, decoder.unknown, end, *decoder.ngram, *tree, totals
            )
        else:
            size = int(state[BEAM])
            totals[:size] = np.logaddexp(*beam_scores[:size].T) + node_scores[beam[:size]]
        said_next = path(nodes, int(beam[totals[:size].argmax()]))
        words = decoder.aligner.words(self._log_probs[start:stop], said_next)
        ends_s = [0.0, *(word.end_s for word in words)]
        pauses_s = tuple(word.start_s - end_s for word, end_s in zip(words, ends_s, strict=False))
        return Continuation("".join(decoder.vocabulary.piece(label) for label in said_next), pauses_s, ended)

    def _and(self, sign: str, text: str) -> _Said:
        """The text so far and another sign."""
        said, label = self._said[-1], self._labels.get(sign)
        if label is None:
            return said._replace(text=text)
        ends, window = np.full_like(said.ends, -np.inf), said.window.copy()
        self._extend(
            self._log_probs, self._decoder.vocabulary.blank, said.last, label, self._rest, said.ends, ends, window
        )  # fmt: skip
        spelling, context = said.spelling, said.context
        if self._decoder.language_model:
            if label == self._decoder.space:
                context, spelling = self._after_word(spelling, context), 0
            elif spelling >= 0:
                spelling = int(self._decoder.ngram.children[spelling, label])
        return _Said(text, ends, window, label, spelling, context)

    def _after_word(self, spelling: int, context: int) -> int:
        """The n-gram's state behind a word; one that it does not know leaves no context."""
        ngram = self._decoder.ngram
        word = int(ngram.words[spelling]) if spelling >= 0 else -1
        while True:
            low, high = ngram.offsets[context], ngram.offsets[context + 1]
            at = low + np.searchsorted(ngram.labels[low:high], word)
            if word >= 0 and at < high and ngram.labels[at] == word:
                return int(ngram.targets[at])
            if ngram.backoffs[context] < 0:
                return context
            context = int(ngram.backoffs[context])


class SearchDraft:
    """Guesses what comes next by a search behind what was written (see `pipelines.decode.draft.Draft`).

    Args:
        search: A search of the clip.
        vocabulary: The tokens of the decoder that is helped.
        frame_shift_s: Of the search's frames.
    """

    def __init__(self, search: PrefixSearch, vocabulary: AedVocabulary, frame_shift_s: float) -> None:
        self._search, self._vocabulary, self._frame_shift_s = search, vocabulary, frame_shift_s

    def ahead(self, tokens: Sequence[int], count: int) -> list[int]:
        """At most `count` tokens that may follow `tokens`."""
        text = self._vocabulary.text(tokens)
        words, last = spoken(text), text.split()[-1] if text else ""
        closed = bool(words) and closes(last)
        self._search.say(" ".join(words) + (" " if closed else ""))
        found = self._search.search(
            round((count * TOKEN_S + MARGIN_S) / self._frame_shift_s), count * TOKEN_LABELS + MARGIN_LABELS
        )
        if found is None:
            return []
        rest, follow = "", found.text.split()
        pauses_s = found.pauses_s
        if follow and words and not closed and not found.text.startswith(" "):
            rest, *follow = follow
            pauses_s = pauses_s[1:]
        if follow and not found.ended:
            follow.pop()
        paused = {index for index, pause_s in enumerate(pauses_s) if pause_s >= COMMA_S}
        ahead = completed(self._vocabulary, last, rest, tokens)
        before = words[-1] + rest if words else ""
        return continued(
            self._vocabulary, last, before, ahead, follow, count, pauses=paused, ended=found.ended
        )  # fmt: skip

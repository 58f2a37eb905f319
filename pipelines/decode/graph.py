"""A decoding graph as decoders use it: checked against the model, with words and times of what was found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pipelines.contracts import CtcVocabulary, Float32, Hypothesis, Word
from pipelines.decode.words import timed_words
from pipelines.errors import AmiraError
from pipelines.graphs.folder import GraphFolder


class GraphOptions(BaseModel):
    """Options of every decoder that searches a graph.

    Attributes:
        graph: A graph that `amira graph build` made: its name, or the path of its folder.
        beam: Costs above the best path of a frame that another path may have before it is dropped.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    graph: str = Field(min_length=1)
    beam: float = Field(default=12.0, gt=0, le=1000, allow_inf_nan=False)


def open_graph(name: str, vocabulary: CtcVocabulary) -> GraphFolder:
    """Open a graph for a model.

    Raises:
        AmiraError: It is not there, is damaged, or was made for another vocabulary.
    """
    folder = GraphFolder.open(Path(name).expanduser())
    folder.check_vocabulary(vocabulary)
    return folder


def no_path(frames: int, beam: float) -> AmiraError:
    """The error for a search that lost its last path."""
    return AmiraError(
        f"no path through the graph was left within {frames} frames and a beam of {beam:g}. Widen the option 'beam', "
        "or build a graph whose words fit what is said"
    )


def collapse(labels: Sequence[int], blank: int) -> tuple[list[int], list[tuple[int, int]]]:
    """The tokens of an alignment, one label a frame, and the first and last frame of each."""
    tokens: list[int] = []
    frames: list[tuple[int, int]] = []
    before = blank
    for frame, label in enumerate(labels):
        if label != blank:
            if label == before:
                frames[-1] = (frames[-1][0], frame)
            else:
                tokens.append(label)
                frames.append((frame, frame))
        before = label
    return tokens, frames


class GraphReader:
    """Makes hypotheses of paths through a graph.

    Args:
        folder: The graph.
        vocabulary: The model's.
        frame_shift_s: Seconds from one frame to the next.
    """

    def __init__(self, folder: GraphFolder, vocabulary: CtcVocabulary, frame_shift_s: float) -> None:
        self.folder, self._vocabulary, self._frame_shift_s = folder, vocabulary, frame_shift_s

    def text(self, outputs: Sequence[int]) -> str:
        """The text of output labels."""
        return self.folder.text(outputs)

    def hypothesis(
        self,
        log_probs: Float32,
        tokens: Sequence[int],
        frames: Sequence[tuple[int, int]],
        outputs: Sequence[int],
        score: float,
    ) -> Hypothesis:
        """A hypothesis with times and confidences of its words.

        Args:
            log_probs: float32 (frames, vocabulary).
            tokens: Labels of the path, repeats collapsed and blanks dropped.
            frames: First and last frame of each, both inclusive.
            outputs: The graph's output labels on the path.
            score: Log-probability of the path, graph included.
        """
        text = self.text(outputs)
        sure = [float(np.exp(log_probs[a : b + 1, token].max())) for token, (a, b) in zip(tokens, frames, strict=True)]
        timed = timed_words(self._vocabulary, tokens, frames, sure, self._frame_shift_s)
        said = text.split()
        # A lexicon may spell a word otherwise than it is written, but not in another number of words; where a
        # user's own does, there are no times.
        words = (
            tuple(Word(word, at.start_s, at.end_s, at.confidence) for word, at in zip(said, timed, strict=True))
            if len(said) == len(timed)
            else ()
        )
        return Hypothesis(text, tuple(tokens), score, words)

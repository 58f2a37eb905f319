"""Log-probabilities as a trained CTC model gives them, made from a text: spikes of a frame or two between blanks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from pipelines.acoustic.tokens import TokenList
from pipelines.graphs.build import GraphRecipe, build
from pipelines.graphs.folder import GraphFolder
from pipelines.graphs.tokens import TokenSet
from tests.small_ctc import LABELS

WORDS = ("the", "cat", "sat", "on", "mat", "that", "cats", "a", "an", "ant", "at", "tea", "letter", "b", "aa")
ARPA = """\\data\\
ngram 1=18
ngram 2=9

\\1-grams:
-99 <s> -0.3
-0.9 </s>
-2.5 <unk>
-0.8 the -0.3
-1.1 cat -0.3
-1.2 sat -0.2
-1.2 on -0.2
-1.3 mat -0.1
-1.4 that -0.1
-1.6 cats -0.1
-1.0 a -0.2
-1.5 an -0.1
-1.7 ant
-1.4 at
-1.8 tea
-1.9 letter
-3.0 b
-3.0 aa

\\2-grams:
-0.4 <s> the
-0.6 the cat
-0.5 cat sat
-0.4 sat on
-0.5 on the
-0.7 the mat
-0.3 mat </s>
-0.6 a cat
-0.5 an ant

\\end\\
"""


def model() -> SimpleNamespace:
    """What a decoder wants of an acoustic model."""
    return SimpleNamespace(vocabulary=TokenList(LABELS, 0), frame_shift_s=0.024)


def peaky(text: str, seed: int, *, doubt: float = 0.1, lead: int = 3) -> np.ndarray:
    """Log-probabilities float32 (frames, labels) of a text.

    Args:
        text: Small letters, apostrophes, spaces.
        seed: Of how long everything lasts and what it is mistaken for.
        doubt: How much of a spike goes to another letter, on average; from a half on, mistakes win.
        lead: Frames of blank around it.
    """
    rng = np.random.default_rng(seed)
    labels = len(LABELS)
    path: list[int] = [0] * lead
    for letter in text:
        label = LABELS.index("<space>" if letter == " " else letter)
        path += [label] * int(rng.integers(1, 3)) + [0] * int(rng.integers(1, 4))
    path += [0] * lead
    values = rng.dirichlet(np.full(labels, 0.05), len(path)) * 0.02
    values[np.arange(len(path)), path] += 1
    spikes = np.flatnonzero(path)
    others = rng.integers(1, labels, spikes.size)
    values[spikes, others] += rng.exponential(doubt, spikes.size)
    values[spikes, 0] += rng.exponential(doubt / 2, spikes.size)
    values += 1e-6
    return np.log(values / values.sum(axis=1, keepdims=True)).astype(np.float32)


def sentence(seed: int, words: int = 6) -> str:
    """Some words of the lexicon."""
    rng = np.random.default_rng(seed)
    return " ".join(rng.choice(WORDS, words))


def small_graph(folder: Path, *, arpa: bool = True) -> GraphFolder:
    """A graph over `WORDS`, built as users build one."""
    folder.mkdir(parents=True, exist_ok=True)
    source = None
    if arpa:
        source = folder / "small.arpa"
        source.write_text(ARPA, "utf-8")
    recipe = GraphRecipe(TokenSet.of(TokenList(LABELS, 0)), arpa=source, words=WORDS, lm_scale=0.5)
    return build("small", recipe, folder, lambda line: None)

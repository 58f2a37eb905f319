"""Estimating and pruning n-gram models with kaldingram, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from pipelines.errors import AmiraError

MAX_ORDER = 5
_MIN_SENTENCES = 20
"""Kneser-Ney's discounts come from counts of counts: a handful of sentences has none."""


def train(sentences: Iterable[str], target: Path, *, order: int = 3) -> int:
    """Estimate a Kneser-Ney back-off model and write it as ARPA.

    Args:
        sentences: Words between spaces, as the model shall know them.
        target: The ARPA file.
        order: Words of an n-gram at most.

    Returns:
        How many sentences it was trained on.

    Raises:
        AmiraError: There are too few sentences, or kaldingram cannot train on them.
    """
    if not 1 <= order <= MAX_ORDER:
        raise AmiraError(f"n-gram order {order} is not possible: use 1 to {MAX_ORDER}")
    text = target.with_suffix(".txt")
    count = 0
    with text.open("w", encoding="utf-8") as file:
        for sentence in sentences:
            words = sentence.split()
            if words:
                file.write(" ".join(words) + "\n")
                count += 1
    try:
        if count < _MIN_SENTENCES:
            raise AmiraError(
                f"{count} sentences are too few to train a language model on; {_MIN_SENTENCES} are the least. "
                "Add text, or leave the language model out: then all words are equally likely"
            )
        _kaldingram("train", "--ngram-order", str(order), "--text", str(text), "--lm", str(target))
    finally:
        text.unlink()
    return count


def prune(source: Path, target: Path, threshold: float) -> None:
    """Drop the n-grams without which perplexity rises by less than `threshold` (relative), after Stolcke (1998).

    Raises:
        AmiraError: The threshold makes no sense, or kaldingram cannot read the model.
    """
    if not 0 < threshold < 1:
        raise AmiraError(f"pruning threshold {threshold:g} makes no sense: use something like 1e-7")
    _kaldingram("prune", "--threshold", repr(threshold), "--lm", str(source), "--write-lm", str(target))


def _kaldingram(*arguments: str) -> None:
    command = [sys.executable, "-c", "import sys; from kaldingram.cli import main; sys.exit(main())", *arguments]
    environment = {**os.environ, "TQDM_DISABLE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        raise AmiraError(
            f"kaldingram cannot {arguments[0]} the language model: {''.join(said) or done.returncode}. "
            "Give it more text or a lower order"
        )

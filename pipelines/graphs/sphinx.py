"""Reads the binary language models of CMU Sphinx (`*.lm.bin`, quantised tries) and writes them as ARPA.

Sphinx has a converter of its own, but the one on the package index crashes on a trigram (5.0.3 to 5.1.1), and
Debian's brings BLAS and LAPACK with it.

The layout, little-endian: `Trie Language Model`, order (1 byte), a count for each order (uint32); 4 bytes that mean
nothing; tables of 65,536 float32 (log-probabilities and back-off weights of each middle order, then log-probabilities
of the highest); unigrams (probability and back-off as float32, first child as uint32; one more at the end); the other
orders, bit-packed; the words, zero-terminated. The trie runs backwards: a child is one word further into the past.
Logarithms are to base 1.0001.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.errors import AmiraError

MAGIC = b"Trie Language Model"
_LOG10 = math.log10(1.0001)
_BINS = 1 << 16
_QUANT_BITS = 16
Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Order:
    """The n-grams of one order.

    Attributes:
        words: int64 (count, order): word ids, oldest first.
        log10: float32 (count,): log10 of the probabilities.
        backoff: float32 (count,): log10 of the back-off weights; zeros in the highest order.
    """

    words: Indices
    log10: Floats
    backoff: Floats


@dataclass(frozen=True, slots=True)
class SphinxModel:
    """A model in memory: its words by id, and its n-grams by order."""

    words: tuple[str, ...]
    orders: tuple[Order, ...]

    def write_arpa(self, path: Path) -> None:
        """Write it as ARPA."""
        with path.open("w", encoding="utf-8") as file:
            file.write("\\data\\\n")
            file.writelines(f"ngram {n}={len(order.log10)}\n" for n, order in enumerate(self.orders, 1))
            for n, order in enumerate(self.orders, 1):
                file.write(f"\n\\{n}-grams:\n")
                file.writelines(self._lines(order, last=n == len(self.orders)))
            file.write("\n\\end\\\n")

    def _lines(self, order: Order, *, last: bool) -> Iterator[str]:
        names = self.words
        rows = zip(order.log10.tolist(), order.words.tolist(), order.backoff.tolist(), strict=True)
        for log10, ids, backoff in rows:
            tail = "\n" if last else f"\t{backoff:.4f}\n"
            yield f"{log10:.4f}\t{' '.join([names[id_] for id_ in ids])}{tail}"


def read(path: Path) -> SphinxModel:
    """Read a binary model.

    Raises:
        AmiraError: It is not one, or is cut short.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AmiraError(f"language model {path} cannot be read: {error.strerror}. Check the path.") from error
    if not data.startswith(MAGIC):
        raise AmiraError(f"{path} is no binary language model of Sphinx: it does not begin with '{MAGIC.decode()}'")
    try:
        return _Reader(data).model()
    except (ValueError, IndexError) as error:
        raise AmiraError(f"binary language model {path} is damaged: {error}. Fetch it again.") from error


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, len(MAGIC)

    def model(self) -> SphinxModel:
        order = int(self._take(np.uint8, 1)[0])
        if not 2 <= order <= 5:
            raise ValueError(f"order {order} is not understood")
        counts = [int(count) for count in self._take("<u4", order)]
        self._take("<u4", 1)
        tables = [(self._take("<f4", _BINS), self._take("<f4", _BINS)) for _ in range(order - 2)]
        longest = self._take("<f4", _BINS)
        unigrams = self._take(np.dtype([("log", "<f4"), ("backoff", "<f4"), ("next", "<u4")]), counts[0] + 1)
        ids = np.arange(counts[0])
        orders = [Order(ids[:, None], _log10(unigrams["log"][:-1]), _log10(unigrams["backoff"][:-1]))]
        children = unigrams["next"].astype(np.int64)
        for index in range(1, order):
            highest = index == order - 1
            width = 0 if highest else counts[index + 1].bit_length()
            fields = [counts[0].bit_length(), *([_QUANT_BITS] if highest else [_QUANT_BITS, _QUANT_BITS, width])]
            # The table may have room for a few more than there are: the last parent says where they end.
            used = int(children[-1])
            columns = [column[: used + 1] for column in self._packed(counts[index], fields)]
            parents = np.repeat(np.arange(len(children) - 1), np.diff(children))
            if not len(parents) == used <= counts[index]:
                raise ValueError(
                    f"its {index + 1}-grams have {len(parents)} parents, and {counts[index]} are announced"
                )
            words = np.concatenate((columns[0][:-1, None], orders[-1].words[parents]), axis=1)
            if highest:
                orders.append(Order(words, _log10(longest[columns[1][:-1]]), np.zeros(used, np.float32)))
            else:
                logs, backoffs = tables[index - 1]
                # The lower half of a pair is the back-off weight.
                orders.append(Order(words, _log10(logs[columns[2][:-1]]), _log10(backoffs[columns[1][:-1]])))
                children = columns[3]
        size = int(self._take("<i4", 1)[0])
        words = self._take(np.uint8, size).tobytes().decode("utf-8").split("\0")[:-1]
        if len(words) != counts[0]:
            raise ValueError(f"it has {len(words)} words instead of {counts[0]}")
        return SphinxModel(tuple(words), tuple(orders))

    def _take(self, kind: npt.DTypeLike, count: int) -> Any:
        values = np.frombuffer(self._data, kind, count, self._at)
        self._at += values.nbytes
        return values

    def _packed(self, count: int, fields: list[int]) -> list[Indices]:
        """The columns of `count` + 1 rows of bit fields, lowest bits first; the last row only ends the children."""
        bits = sum(fields)
        size = ((1 + count) * bits + 7) // 8 + 8
        packed = self._take(np.uint8, size)
        columns = []
        offset = 0
        for width in fields:
            at = np.arange(count + 1) * bits + offset
            # A field of at most 25 bits lies within four bytes, wherever it begins.
            four = np.stack([packed[(at >> 3) + byte].astype(np.int64) << (8 * byte) for byte in range(4)]).sum(axis=0)
            columns.append((four >> (at & 7)) & ((1 << width) - 1))
            offset += width
        return columns


def _log10(logs: Floats) -> Floats:
    scaled: Floats = (logs * _LOG10).astype(np.float32)
    return scaled

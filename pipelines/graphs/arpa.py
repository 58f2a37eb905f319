"""ARPA language models: reading one through, and rewriting it for a graph. The files are large; nothing is kept."""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from pipelines.errors import AmiraError

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
_COUNT = re.compile(r"^ngram\s+(\d+)\s*=\s*(\d+)$")
_SECTION = re.compile(r"^\\(\d+)-grams:$")
MAX_ORDER = 9


@dataclass(frozen=True, slots=True)
class NGram:
    """One line: log10 of the probability, the words, log10 of the back-off weight (0 where none is given)."""

    log10: float
    words: tuple[str, ...]
    backoff: float


def read(path: Path) -> Iterator[NGram]:
    """The n-grams of an ARPA file (plain or gzip), orders rising.

    Raises:
        AmiraError: It does not parse; the message begins with file and line.
    """
    with _opened(path) as file:
        lines = enumerate(file, 1)
        counts = _counts(path, lines)
        for order in range(1, len(counts) + 1):
            _section(path, lines, order)
            found = 0
            for number, line in lines:
                text = line.strip()
                if not text:
                    break
                yield _ngram(path, number, text, order)
                found += 1
            if found != counts[order - 1]:
                raise _wrong(path, None, f"it announces {counts[order - 1]} {order}-grams and has {found}")
        if not any(line.strip() == "\\end\\" for _, line in lines):
            raise _wrong(path, None, "it ends without \\end\\: it is cut short")


def words(path: Path) -> list[str]:
    """The words of the model, without its markers, in the order of the file."""
    found = []
    for entry in read(path):
        if len(entry.words) > 1:
            break
        if entry.words[0].lower() not in (BEGIN, END, UNKNOWN):
            found.append(entry.words[0])
    return found


def rewrite(
    source: Path,
    target: Path,
    keep: Callable[[str], str | None],
    *,
    scale: float = 1.0,
    order: int | None = None,
    extra: Sequence[str] = (),
) -> tuple[int, ...]:
    """Write a smaller or scaled copy of a model.

    Args:
        source: The model.
        target: The copy.
        keep: The word as it shall be written, or `None` to drop every n-gram with it. Markers are kept as they are.
        scale: Multiplies every log-probability and back-off weight.
        order: Highest order that is kept; `None` for all.
        extra: Words that the model may lack: they become as likely as its rarest word.

    Returns:
        The number of n-grams of each order in the copy.

    Raises:
        AmiraError: The model does not parse, or nothing of it is left.
    """
    counts: list[int] = []
    lacking, rarest = dict.fromkeys(extra), 0.0
    with TemporaryFile("w+", encoding="utf-8") as body:
        for entry in read(source):
            size = len(entry.words)
            if size == 2 and lacking:
                counts[0] += _add(body, lacking, rarest * scale)
                lacking = {}
            if order is not None and size > order:
                break
            if size > len(counts):
                body.write(f"\n\\{size}-grams:\n")
                counts.append(0)
            written = _kept(entry.words, keep)
            if written is None:
                continue
            # A marker's conventional -99 stands for zero and stays so under any scale.
            log10 = entry.log10 if entry.log10 <= -99 else entry.log10 * scale
            body.write(f"{log10:.6g}\t{' '.join(written)}\t{entry.backoff * scale:.6g}\n")
            counts[-1] += 1
            if size == 1:
                lacking.pop(written[0], None)
                rarest = min(rarest, entry.log10) if entry.log10 > -99 else rarest
        if lacking:  # a model of single words
            counts[0] += _add(body, lacking, rarest * scale)
        while len(counts) > 1 and not counts[-1]:
            counts.pop()
        if not counts or counts[0] <= 2:
            raise AmiraError(f"no word of language model {source} can be used: the model's tokens spell none of them")
        body.seek(0)
        with target.open("w", encoding="utf-8") as out:
            out.write("\\data\\\n")
            out.writelines(f"ngram {size}={count}\n" for size, count in enumerate(counts, 1))
            _copy_sections(body, out, len(counts))
            out.write("\n\\end\\\n")
    return tuple(counts)


def _add(body: IO[str], words: Iterable[str], log10: float) -> int:
    """Write unigrams; returns how many."""
    lines = [f"{log10:.6g}\t{word}\t0\n" for word in words]
    body.writelines(lines)
    return len(lines)


def _copy_sections(body: IO[str], out: IO[str], orders: int) -> None:
    """Copy the sections up to an order; that one has no back-off weights, which kaldilm insists on."""
    size = 0
    for line in body:
        if line.startswith("\\"):
            size += 1
            if size > orders:
                return
        out.write(line.rpartition("\t")[0] + "\n" if size == orders and "\t" in line else line)


def _kept(entry: tuple[str, ...], keep: Callable[[str], str | None]) -> list[str] | None:
    written = []
    for word in entry:
        marker = word.lower()
        kept = marker if marker in (BEGIN, END) else keep(word)
        if kept is None:
            return None
        written.append(kept)
    return written


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    try:
        with path.open("rb") as probe:
            packed = probe.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rt", encoding="utf-8") if packed else path.open(encoding="utf-8") as file:
            yield file
    except UnicodeDecodeError as error:
        raise _wrong(
            path, None, f"it is not UTF-8 text ({error.reason}); a binary model must be converted first"
        ) from error
    except (OSError, EOFError) as error:
        raise AmiraError(f"language model {path} cannot be read: {error}. Name an ARPA file.") from error


def _counts(path: Path, lines: Iterator[tuple[int, str]]) -> list[int]:
    if not any(line.strip() == "\\data\\" for _, line in lines):
        raise _wrong(path, None, "it has no \\data\\ line")
    counts: list[int] = []
    for number, line in lines:
        text = line.strip()
        if not text:
            if counts:
                break
            continue
        match = _COUNT.match(text)
        if match is None or int(match[1]) != len(counts) + 1:
            raise _wrong(path, number, f"expected 'ngram {len(counts) + 1}=COUNT', got {text[:60]!r}")
        counts.append(int(match[2]))
    if not counts or len(counts) > MAX_ORDER:
        raise _wrong(path, None, f"it announces {len(counts)} orders; 1 to {MAX_ORDER} are understood")
    return counts


def _section(path: Path, lines: Iterator[tuple[int, str]], order: int) -> None:
    for number, line in lines:
        text = line.strip()
        if not text:
            continue
        match = _SECTION.match(text)
        if match is None or int(match[1]) != order:
            raise _wrong(path, number, f"expected '\\{order}-grams:', got {text[:60]!r}")
        return
    raise _wrong(path, None, f"it ends before its {order}-grams: it is cut short")


def _ngram(path: Path, number: int, text: str, order: int) -> NGram:
    fields = text.split()
    try:
        log10 = float(fields[0])
        backoff = float(fields[order + 1]) if len(fields) == order + 2 else 0.0
    except ValueError:
        raise _wrong(path, number, f"not a number in {text[:60]!r}") from None
    if len(fields) not in (order + 1, order + 2):
        raise _wrong(
            path, number, f"expected a log-probability, {order} words and perhaps a back-off weight, got {text[:60]!r}"
        )
    if not (log10 <= 0.001 and math.isfinite(backoff)) or math.isnan(log10):
        raise _wrong(path, number, f"{text[:60]!r} is no log10 of a probability")
    return NGram(log10, tuple(fields[1 : order + 1]), backoff)


def _wrong(path: Path, number: int | None, what: str) -> AmiraError:
    where = f"{path}:{number}" if number else f"language model {path}"
    return AmiraError(f"{where}: {what}. It must be an ARPA file, as kaldingram, KenLM and SRILM write them.")

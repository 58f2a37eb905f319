"""The `pages` axis: the size of the memory pages that a loaded pipeline lies on.

A decoder step reads every weight once, 154 MB in FP32: some 38,000 pages of 4 KiB, far more than the processor's
address cache holds. On pages of 2 MiB the same weights need 75.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.errors import AmiraError
from pipelines.registry import Context, Unavailable, Variant

HUGE = 2 << 20
"""Bytes of a huge page on x86-64 and, with 4 KiB base pages, on 64-bit Arm."""
_MADV_HUGEPAGE = 14
_MADV_COLLAPSE = 25
_FOR_NOW = (errno.ENOMEM, errno.EAGAIN, errno.EBUSY)
"""What a kernel that can do it says while it has no huge page to spare."""
Range = tuple[int, int]


class NormalPages(Variant):
    """`pages/normal`."""

    id = "pages/normal"
    summary = "the pages that the system gives, 4 KiB as a rule"

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[int]:
        yield 0


class HugePages(Variant):
    """`pages/huge`."""

    id = "pages/huge"
    summary = "weights and arenas moved onto 2 MiB pages once they are loaded"

    @classmethod
    def available(cls) -> Unavailable | None:
        """Whether the kernel collapses a mapping when asked to, tried on one page."""
        if not sys.platform.startswith("linux"):
            return Unavailable(f"MADV_COLLAPSE is Linux's, this is {sys.platform}", "Run it on Linux 6.1 or newer.")
        with mmap.mmap(-1, 2 * HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as probe:
            probe[:: mmap.PAGESIZE] = b"\x01" * (2 * HUGE // mmap.PAGESIZE)
            view = ctypes.c_char.from_buffer(probe)
            code = _collapse(*_aligned(ctypes.addressof(view), ctypes.addressof(view) + 2 * HUGE))
            del view
        if code == 0 or code in _FOR_NOW:
            return None
        return Unavailable(
            f"the kernel does not collapse memory onto huge pages ({os.strerror(code)})",
            "It takes Linux 6.1 or newer, built with transparent huge pages.",
        )

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[int]:
        yield collapse_all()


def collapse_all() -> int:
    """Move every large private anonymous mapping of this process onto huge pages; returns the bytes that moved.

    Raises:
        AmiraError: None could be moved.
    """
    moved, problems = 0, set()
    for start, end in _whole_pages(_anonymous(Path("/proc/self/maps").read_text("ascii").splitlines())):
        # A page that was never touched cannot be moved, and ends the call: go page by page.
        for page in range(start, end, HUGE):
            code = _collapse(page, page + HUGE)
            if code == 0:
                moved += HUGE
            else:
                problems.add(code)
    if not moved:
        causes = ", ".join(sorted(map(os.strerror, problems))) or "no mapping is large enough"
        raise AmiraError(f"no memory could be moved onto huge pages: {causes}. Use pages/normal, or free some memory")
    return moved


def _anonymous(lines: Iterable[str]) -> Iterator[Range]:
    """Address ranges of writable private mappings that no file stands behind, from `/proc/self/maps`."""
    for line in lines:
        addresses, rights, _, _, inode, *name = line.split(maxsplit=5)
        if rights.startswith("rw") and rights.endswith("p") and inode == "0" and name in ([], ["[heap]"]):
            start, _, end = addresses.partition("-")
            yield int(start, 16), int(end, 16)


def _whole_pages(ranges: Iterable[Range]) -> Iterator[Range]:
    for start, end in ranges:
        first, last = _aligned(start, end)
        if first < last:
            yield first, last


def _aligned(start: int, end: int) -> Range:
    """The part of a range that is made of whole huge pages."""
    return -(-start // HUGE) * HUGE, end // HUGE * HUGE


def _collapse(start: int, end: int) -> int:
    """Collapse one range now; returns 0 or the error number."""
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    madvise(start, end - start, _MADV_HUGEPAGE)  # so that what is freed and taken again is huge as well
    if madvise(start, end - start, _MADV_COLLAPSE) == 0:
        return 0
    return ctypes.get_errno() or errno.EINVAL

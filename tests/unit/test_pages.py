"""Huge pages: which mappings are moved, and that they really are."""

import errno
import sys

import numpy as np
import pytest

from pipelines import pages

MAPS = """\
00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/thing
00e03000-00f24000 rw-p 00000000 00:00 0           [heap]
7f0000000000-7f0000600000 rw-p 00000000 00:00 0
7f0001000000-7f0001600000 rw-s 00000000 00:05 99  /dev/zero (deleted)
7f0002000000-7f0002600000 rw-p 00000000 08:02 42  /usr/lib/library.so
7f0003000000-7f0003600000 r--p 00000000 00:00 0
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0   [stack]
"""


def test_only_private_writable_anonymous_mappings_count() -> None:
    found = list(pages._anonymous(MAPS.splitlines()))
    assert found == [(0x00E03000, 0x00F24000), (0x7F0000000000, 0x7F0000600000)]


@pytest.mark.parametrize(
    ("given", "whole"),
    [((0, 3 << 20), [(0, 2 << 20)]), ((1, 4 << 20), [(2 << 20, 4 << 20)]), ((1, (4 << 20) - 1), [])],
)
def test_whole_pages(given: tuple[int, int], whole: list[tuple[int, int]]) -> None:
    assert list(pages._whole_pages([given])) == whole


@pytest.mark.skipif(pages.HugePages.available() is not None, reason="the kernel does not collapse memory")
def test_a_large_array_is_moved_and_keeps_its_values() -> None:
    array = np.arange(16 << 20, dtype=np.int32)
    assert pages.collapse_all() >= 60 << 20
    assert (array == np.arange(16 << 20)).all()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="MADV_COLLAPSE is Linux's")
@pytest.mark.parametrize(
    ("code", "can"), [(0, True), (errno.ENOMEM, True), (errno.EAGAIN, True), (errno.EINVAL, False)]
)
def test_a_machine_that_is_short_of_huge_pages_for_now_has_them(
    code: int, can: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "_collapse", lambda *_: code)
    assert (pages.HugePages.available() is None) == can

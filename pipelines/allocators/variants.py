"""The variants of the `allocator` axis: each is put into a process when it starts, and checked when it is opened.

An allocator cannot be changed in a running process. `process_environment` says what a process must be started with;
opening the variant proves that this process was, and fails where it was not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from pipelines.allocators import libraries, process
from pipelines.allocators.libraries import JEMALLOC, MIMALLOC, Library
from pipelines.errors import AmiraError
from pipelines.registry import Context, Unavailable, Variant

PRELOAD = "LD_PRELOAD"
TUNABLES = "GLIBC_TUNABLES"
HUGETLB = "glibc.malloc.hugetlb"
HUGEPAGE_MODES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
HUGETLB_SINCE = (2, 35)
_LIBC = "libc."


class Glibc(Variant):
    """`allocator/glibc`."""

    id = "allocator/glibc"
    summary = "the malloc of the C library, as the system has it"

    @classmethod
    def available(cls) -> Unavailable | None:
        """Whether the C library is glibc."""
        return _needs_glibc((2, 0))

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[str]:
        _check_libc(cls.id)
        if _hugetlb(process.started_with()) not in (None, "0"):
            raise AmiraError(
                f"variant '{cls.id}' is glibc's malloc untuned, but this process was started with "
                f"{TUNABLES}={process.started_with()[TUNABLES]}. Remove {HUGETLB} from it."
            )
        yield process.name()


class GlibcHugePages(Variant):
    """`allocator/glibc-hugepages`."""

    id = "allocator/glibc-hugepages"
    summary = "the malloc of glibc, which asks for huge pages by madvise for all it takes"

    @classmethod
    def available(cls) -> Unavailable | None:
        """Whether glibc knows the setting and the kernel waits for the advice."""
        old = _needs_glibc(HUGETLB_SINCE)
        if old is not None:
            return old
        modes = HUGEPAGE_MODES.read_text("ascii").strip() if HUGEPAGE_MODES.is_file() else "none"
        if "[madvise]" in modes:
            return None
        return Unavailable(
            f"glibc gives the advice only where the kernel waits for it; transparent huge pages are: {modes}",
            f"Set them to madvise (root): echo madvise > {HUGEPAGE_MODES}",
        )

    @classmethod
    def process_environment(cls, environment: Mapping[str, str]) -> dict[str, str]:
        """The tunable, behind those that are already set."""
        others = [part for part in environment.get(TUNABLES, "").split(":") if part and not part.startswith(HUGETLB)]
        return {TUNABLES: ":".join([*others, f"{HUGETLB}=1"])}

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[str]:
        _check_libc(cls.id)
        if _hugetlb(process.started_with()) != "1":
            raise _not_started_so(cls.id, f"{TUNABLES}={HUGETLB}=1", f"{TUNABLES} did not have it at its start")
        yield f"{process.name()}, huge pages"


class _Preloaded(Variant):
    """An allocator in a library of its own."""

    library: ClassVar[Library]

    @classmethod
    def available(cls) -> Unavailable | None:
        """Whether the library is on this machine."""
        return libraries.problem(cls.library)

    @classmethod
    def process_environment(cls, environment: Mapping[str, str]) -> dict[str, str]:
        """The library, before whatever is preloaded already: the first `malloc` wins.

        Raises:
            AmiraError: The library is not on this machine.
        """
        others = environment.get(PRELOAD, "").replace(":", " ").split()
        path = str(cls._path())
        return {PRELOAD: ":".join([path, *(other for other in others if other != path)])}

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[str]:
        path = cls._path()
        if not process.is_mapped(path):
            raise _not_started_so(cls.id, f"{PRELOAD}={path}", f"{path.name} is not mapped in it")
        source = process.malloc_library()
        if not source.exists() or not source.samefile(path):
            raise _not_started_so(cls.id, f"{PRELOAD}={path}", f"its malloc comes from {source.name}")
        yield process.name()

    @classmethod
    def _path(cls) -> Path:
        path = libraries.find(cls.library)
        if path is None:
            raise AmiraError(
                f"variant '{cls.id}' needs {cls.library.file}, which is not on this machine. Run: {libraries.SETUP}"
            )
        return path


class Jemalloc(_Preloaded):
    """`allocator/jemalloc`."""

    id = "allocator/jemalloc"
    summary = "jemalloc: size classes in arenas, unused pages given back after a while"
    library = JEMALLOC


class Mimalloc(_Preloaded):
    """`allocator/mimalloc`."""

    id = "allocator/mimalloc"
    summary = "mimalloc: a free list for each small page, segments of megabytes from the system"
    library = MIMALLOC


def _needs_glibc(version: tuple[int, int]) -> Unavailable | None:
    import platform

    kind, text = platform.libc_ver()
    have = tuple(int(part) for part in text.split(".")[:2]) if text else (0, 0)
    if kind == "glibc" and have >= version:
        return None
    found = f"{kind} {text}".strip() or "another C library"
    wanted = ".".join(map(str, version)) if version[1] else "any version"
    return Unavailable(f"it needs glibc ({wanted}), this Python runs on {found}", "Run it on a newer glibc Linux.")


def _check_libc(variant_id: str) -> None:
    source = process.malloc_library()
    if not source.name.startswith(_LIBC):
        raise AmiraError(
            f"variant '{variant_id}' is the malloc of glibc, but in this process malloc comes from {source.name}. "
            f"Start it without {PRELOAD}."
        )


def _hugetlb(environment: Mapping[str, str]) -> str | None:
    settings = (part.partition("=") for part in environment.get(TUNABLES, "").split(":"))
    # Where it is there twice, glibc takes the last.
    return {name: value for name, _, value in settings}.get(HUGETLB)


def _not_started_so(variant_id: str, setting: str, evidence: str) -> AmiraError:
    return AmiraError(
        f"variant '{variant_id}' is not in this process: {evidence}, and an allocator cannot be changed in a running "
        f"process. Start it with {setting}; 'amira bench' does so by itself for each case."
    )

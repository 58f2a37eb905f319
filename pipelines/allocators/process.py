"""What allocator this process really has, and the bytes that live in it.

The numbers are the allocators' own and are rounded up as each of them rounds: to its size classes, or with its
headers. None of them counts what goes past `malloc`: Python's arenas for small objects and the stacks of threads.

| allocator | live bytes |
|---|---|
| glibc | `mallinfo2()`: `uordblks` (in use in all arenas, blocks in thread caches included) + `hblkhd` (mapped blocks) |
| jemalloc | `mallctl("stats.allocated")` after a new `epoch` |
| mimalloc | `mi_heap_visit_blocks` over the calling thread's heap: used blocks by their size. Heaps of other threads cannot be visited. (`mi_process_info` tells what is committed, not what lives.) |
"""  # noqa: E501 - a table

from __future__ import annotations

import ctypes
import os
import platform
import sys
from pathlib import Path
from typing import Any

_SIZE = ctypes.c_size_t


class _SymbolInfo(ctypes.Structure):
    """`Dl_info` of `dladdr(3)`."""

    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


class _MallocInfo(ctypes.Structure):
    """`struct mallinfo2` of glibc 2.33 and newer; sizes in bytes."""

    _fields_ = tuple(
        (field, _SIZE)
        for field in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


class _HeapArea(ctypes.Structure):
    """`mi_heap_area_t` of mimalloc 2: `used` blocks of `block_size` bytes."""

    _fields_ = (
        ("blocks", ctypes.c_void_p),
        ("reserved", _SIZE),
        ("committed", _SIZE),
        ("used", _SIZE),
        ("block_size", _SIZE),
    )


_VISITOR = ctypes.CFUNCTYPE(
    ctypes.c_bool, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p
)


class _Object(ctypes.Structure):
    """The beginning of the C library's `dl_phdr_info`."""

    _fields_ = (("address", ctypes.c_void_p), ("name", ctypes.c_char_p))


_LOOKER = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Object), ctypes.c_size_t, ctypes.c_void_p)


def malloc_library() -> Path:
    """The file that `malloc` comes from in this process.

    Raises:
        OSError: The loader does not know, as in a statically linked Python.
    """
    path = _file_of(ctypes.CDLL(None))
    return path if not path.samefile(sys.executable) else first_with_malloc()


def first_with_malloc() -> Path:
    """The first library in the loader's order that has a `malloc` of its own.

    What `malloc_library` falls back to: in an executable at a fixed address, as some Pythons are, the address of
    `malloc` is that of the executable's own way to it.

    Raises:
        OSError: There is none.
    """
    for path in _loaded():
        library = ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
        if hasattr(library, "malloc") and _file_of(library).samefile(path):
            return path
    raise OSError("the loader does not say where malloc comes from")


def _file_of(library: ctypes.CDLL) -> Path:
    """The file with the `malloc` that is found by way of a library."""
    everything = ctypes.CDLL(None)
    everything.dladdr.argtypes = [ctypes.c_void_p, ctypes.POINTER(_SymbolInfo)]
    info = _SymbolInfo()
    if not everything.dladdr(ctypes.cast(library.malloc, ctypes.c_void_p), ctypes.byref(info)) or not info.file:
        raise OSError("the loader does not say where malloc comes from")
    return Path(info.file.decode())


def _loaded() -> list[Path]:
    """The files of the libraries of this process, in the order in which the loader looks for symbols."""
    found: list[Path] = []

    def look(object_: Any, size: int, data: Any) -> int:
        name = object_.contents.name
        if name and Path(name.decode()).is_file():  # the executable has no name, the kernel's own library no file
            found.append(Path(name.decode()))
        return 0

    ctypes.CDLL(None).dl_iterate_phdr(_LOOKER(look), None)
    return found


def is_mapped(library: Path) -> bool:
    """Whether a file is mapped into this process."""
    wanted = str(library.resolve())
    lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    return any(line.endswith(f" {wanted}") for line in lines)


def started_with() -> dict[str, str]:
    """The environment that this process was started with, whatever was set since."""
    pairs = (entry.partition(b"=") for entry in Path("/proc/self/environ").read_bytes().split(b"\0") if entry)
    return {name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, _, value in pairs}


def name() -> str:
    """The allocator of this process with its version, e.g. `jemalloc 5.3.0`; of an unknown one its file's name."""
    path = malloc_library()
    library = ctypes.CDLL(str(path))
    if hasattr(library, "mallctl"):
        version = ctypes.c_char_p()
        _mallctl(library, b"version", version)
        return f"jemalloc {(version.value or b'').decode().partition('-')[0]}"
    if hasattr(library, "mi_version"):
        number = library.mi_version()
        return f"mimalloc {number // 100}.{number // 10 % 10}.{number % 10}"
    if hasattr(library, "gnu_get_libc_version"):
        return f"{platform.libc_ver()[0]} {platform.libc_ver()[1]}"
    return path.name


def live_bytes() -> int | None:
    """Bytes in blocks that were allocated and not freed (see the table above); `None` where nobody can tell."""
    library = ctypes.CDLL(str(malloc_library()))
    if hasattr(library, "mallctl"):
        return _live_in_jemalloc(library)
    if hasattr(library, "mi_heap_visit_blocks"):
        return _live_in_mimalloc(library)
    if hasattr(library, "mallinfo2"):
        library.mallinfo2.restype = _MallocInfo
        info = library.mallinfo2()
        return int(info.uordblks + info.hblkhd)
    return None


def _live_in_jemalloc(library: ctypes.CDLL) -> int | None:
    epoch = ctypes.c_uint64(1)
    # The statistics are a snapshot, taken when the epoch is written.
    refreshed = library.mallctl(b"epoch", None, None, ctypes.byref(epoch), _SIZE(ctypes.sizeof(epoch)))
    allocated = _SIZE()
    if refreshed or _mallctl(library, b"stats.allocated", allocated):
        return None  # built without statistics
    return allocated.value


def _mallctl(library: ctypes.CDLL, key: bytes, value: ctypes.c_size_t | ctypes.c_char_p) -> int:
    """Read a value of jemalloc; returns 0 or the error number."""
    size = _SIZE(ctypes.sizeof(value))
    return int(library.mallctl(key, ctypes.byref(value), ctypes.byref(size), None, _SIZE(0)))


def _live_in_mimalloc(library: ctypes.CDLL) -> int:
    total = 0

    # What runs here must allocate nothing but small Python objects, which never reach the heap that is walked.
    def visit(_heap: int, area: int, _block: int, _size: int, _argument: int) -> bool:
        nonlocal total
        found = _HeapArea.from_address(area)
        total += found.used * found.block_size
        return True

    library.mi_heap_get_default.restype = ctypes.c_void_p
    library.mi_heap_visit_blocks.argtypes = [ctypes.c_void_p, ctypes.c_bool, _VISITOR, ctypes.c_void_p]
    library.mi_heap_visit_blocks(library.mi_heap_get_default(), False, _VISITOR(visit), None)
    return total

"""Counts the instructions of kernels under callgrind: `python count_worker.py MODE SIZE OPERATION:IMPLEMENTATION...`.

Started as a file, with nothing of ours imported but `kernels`: in another checkout's process, those are that
checkout's. MODE is `compile`, which fills numba's cache and needs no valgrind, or `count`. Each kernel is called 2, 4
and 6 times, and callgrind counts nothing but these calls: what a call costs is the slope, in which the loop around the
calls and the way in and out of it cancel. One JSON object a line on stdout says what became of each kernel.
"""

from __future__ import annotations

import ctypes
import gc
import json
import mmap
import sys
from collections.abc import Callable
from typing import Any

CALLS = (2, 4, 6)
REHEARSALS = 16
"""Rounds before the counted ones: the interpreter specialises its own code in the first few."""
CLIENT_REQUEST = bytes.fromhex("4889f8 31d2 48c1c703 48c1c70d 48c1c73d 48c1c733 4887db 4889d0 c3")
"""Machine code of x86-64: valgrind's magic sequence with the request in rdi. Outside of valgrind it does nothing."""
DUMP, ZERO, TOGGLE, START, STOP = 3, 1, 2, 4, 5
"""callgrind's requests: write the counts to a file, set them to 0, collect or not, instrument, no longer."""
BASE = ord("C") << 24 | ord("T") << 16


class Callgrind:
    """Requests to the valgrind that this process runs under."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._memory.write(CLIENT_REQUEST)
        self._code = ctypes.c_char.from_buffer(self._memory)
        self._ask = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)(ctypes.addressof(self._code))

    def request(self, number: int, argument: int = 0) -> Callable[[], int]:
        """A request that is ready to be made."""
        block = (ctypes.c_uint64 * 6)(BASE + number, argument, 0, 0, 0, 0)
        return lambda: int(self._ask(ctypes.addressof(block)))

    def dump(self, name: str) -> Callable[[], int]:
        """A request to write the counts under a name."""
        text = ctypes.create_string_buffer(name.encode())
        ask = self.request(DUMP, ctypes.addressof(text))
        return lambda: (ask(), len(text))[0]  # `text` lives as long as the request


def main() -> None:
    """Do what the command line says."""
    mode, size, *kernels = sys.argv[1:]
    gc.disable()
    for name in kernels:
        try:
            call, arguments = _kernel(size, *name.split(":"))
            if mode == "count":
                _count(name, call, arguments)
            said: dict[str, str] = {"kernel": name}
        except Exception as error:  # noqa: BLE001 - an older commit may lack anything; the parent says so
            said = {"kernel": name, "error": f"{type(error).__name__}: {error}"}
        print(json.dumps(said), flush=True)


def _kernel(size: str, operation: Any, implementation: Any) -> tuple[Callable[..., int], tuple[Any, ...]]:
    from kernels.dispatch import TABLE
    from kernels.workloads import SIZES, workload

    return TABLE[operation].load(implementation).call, workload(operation, SIZES[size]).arguments


def _count(name: str, call: Callable[..., int], arguments: tuple[Any, ...]) -> None:
    def run(times: int) -> None:
        for _ in range(times):
            call(*arguments)

    callgrind = Callgrind()
    zero, toggle = callgrind.request(ZERO), callgrind.request(TOGGLE)

    def counted(times: int) -> None:
        zero()
        toggle()
        run(times)
        toggle()

    for _ in range(REHEARSALS):
        counted(1)
    callgrind.request(START)()
    for times in CALLS:
        dump = callgrind.dump(f"{name}:{times}")
        counted(times)
        dump()
    callgrind.request(STOP)()


if __name__ == "__main__":
    main()

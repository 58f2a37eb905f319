"""Calls a compiled kernel many times without Python in between: what the kernel costs by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kernels.compile import Loop, compile_loop


def driver(*loops: Loop) -> Callable[[int, tuple[Any, ...]], None]:
    """A function of (times, arguments) that calls the loops that often from machine code, one behind the other.

    It calls through pointers, so that nothing of a loop is inlined into it and compiled for another target. The
    arguments of all of them follow each other.

    Raises:
        ValueError: A loop is not a compiled one, or one of several has constants of its own.
    """
    if any(loop.dispatcher is None for loop in loops):
        raise ValueError("only a compiled loop can be driven without Python; time this one by calling it")
    if len(loops) > 1 and any(loop.constants for loop in loops):
        raise ValueError("several loops are driven together without constants of their own only")
    import numba
    from numba.core import types

    signatures = [next(iter(loop.dispatcher.overloads.values())).signature for loop in loops]
    names = [[f"a{number}_{place}" for place in range(len(kind.args))] for number, kind in enumerate(signatures)]
    pointers = ", ".join(f"call{number}" for number in range(len(loops)))
    body = "".join(f"        call{number}({', '.join(own)})\n" for number, own in enumerate(names))
    arguments = ", ".join(name for own in names for name in own)
    scope: dict[str, Any] = {}
    # numba cannot take *args under an explicit signature
    exec(f"def drive({pointers}, times, {arguments}):\n    for _ in range(times):\n{body}", scope)
    kinds: list[Any] = [types.FunctionType(kind) for kind in signatures]
    given = [argument for kind in signatures for argument in kind.args]
    drive = numba.njit(types.void(*kinds, types.int64, *given), nogil=True)(scope["drive"])
    called = [loop.dispatcher for loop in loops]
    return lambda times, arguments: drive(*called, times, *arguments, *loops[0].constants)


def memcpy_loop() -> Loop:
    """The C library's memcpy as a loop of two float32 arrays, `(source, target)`: what every kernel is measured by."""
    from kernels import simd

    @compile_loop("int64(float32[::1], float32[::1])")
    def loop(source, target):  # type: ignore[no-untyped-def]
        if source.size != target.size or not simd.usable(source, False) or not simd.usable(target, True):
            return -1
        simd.memcpy(target, source, source.nbytes)
        return 0

    return loop

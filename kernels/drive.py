"""Calls a compiled kernel many times without Python in between: what the kernel costs by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kernels.compile import Loop, compile_loop


def driver(loop: Loop) -> Callable[[int, tuple[Any, ...]], None]:
    """A function of (times, arguments) that calls the loop that often from machine code.

    It calls through a pointer, so that nothing of the loop is inlined into it and compiled for another target.

    Raises:
        ValueError: The loop is not a compiled one.
    """
    if loop.dispatcher is None:
        raise ValueError("only a compiled loop can be driven without Python; time this one by calling it")
    import numba
    from numba.core import types

    [compiled] = loop.dispatcher.overloads.values()
    signature = compiled.signature
    names = ", ".join(f"a{number}" for number in range(len(signature.args)))
    scope: dict[str, Any] = {}
    # numba cannot take *args under an explicit signature
    exec(f"def drive(call, times, {names}):\n    for _ in range(times):\n        call({names})\n", scope)
    kind: Any = types.FunctionType(signature)
    drive = numba.njit(types.void(kind, types.int64, *signature.args), nogil=True)(scope["drive"])
    return lambda times, arguments: drive(loop.dispatcher, times, *arguments, *loop.constants)


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

"""What one core can do at most: multiply-adds in registers, and reading memory. Every floor is computed from these."""

from __future__ import annotations

import numpy as np

from kernels.compile import Loop, compile_loop

CHAINS = 10
"""Independent chains of `fma_loop`: two multiply-adds a cycle that take four cycles each need eight."""


def fma_loop(lanes: int) -> Loop:
    """`(times, out)`: that many multiply-adds of `lanes` lanes in each of `CHAINS` chains; no memory in between.

    out: float32 (1,), gets a number that depends on all of them.
    """
    from kernels import simd

    @compile_loop("int64(int64, float32[::1])")
    def loop(times, out):  # type: ignore[no-untyped-def]
        simd.target(lanes)
        x = simd.splat(np.float32(0.5), lanes)
        a = simd.splat(out[0], lanes)
        b, c, d = simd.add(a, x), simd.add(simd.add(a, x), x), simd.sub(a, x)  # chains of one start would become one
        e, f, g = simd.mul(a, x), simd.mul(b, x), simd.mul(c, x)
        h, i, j = simd.mul(e, x), simd.mul(f, x), simd.mul(g, x)
        for _ in range(times):
            a, b, c, d, e = (
                simd.fma(a, x, x), simd.fma(b, x, x), simd.fma(c, x, x), simd.fma(d, x, x), simd.fma(e, x, x),
            )  # fmt: skip
            f, g, h, i, j = (
                simd.fma(f, x, x), simd.fma(g, x, x), simd.fma(h, x, x), simd.fma(i, x, x), simd.fma(j, x, x),
            )  # fmt: skip
        one = simd.add(simd.add(simd.add(a, b), simd.add(c, d)), simd.add(simd.add(e, f), simd.add(g, h)))
        out[0] = simd.total(simd.add(one, simd.add(i, j)))
        return 0

    return loop


def read_loop(lanes: int) -> Loop:
    """`(x, out)`: the largest of each lane over float32 `x` (a multiple of 8 * `lanes`), which reads it once."""
    from kernels import simd

    @compile_loop("int64(float32[::1], float32[::1])")
    def loop(x, out):  # type: ignore[no-untyped-def]
        simd.target(lanes)
        if x.size % (8 * lanes):
            return -1
        a = b = c = d = simd.splat(np.float32(-np.inf), lanes)
        for i in range(0, x.size, 8 * lanes):
            a = simd.larger(simd.larger(simd.load(x, i, lanes), simd.load(x, i + lanes, lanes)), a)
            b = simd.larger(simd.larger(simd.load(x, i + 2 * lanes, lanes), simd.load(x, i + 3 * lanes, lanes)), b)
            c = simd.larger(simd.larger(simd.load(x, i + 4 * lanes, lanes), simd.load(x, i + 5 * lanes, lanes)), c)
            d = simd.larger(simd.larger(simd.load(x, i + 6 * lanes, lanes), simd.load(x, i + 7 * lanes, lanes)), d)
        out[0] = simd.largest(simd.larger(simd.larger(a, b), simd.larger(c, d)))
        return 0

    return loop

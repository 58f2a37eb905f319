"""exp and log of float32 vectors, by range reduction and the polynomials of Cephes' expf and logf (S. Moshier).

Both stay within 2 units in the last place of the true value, over the whole range.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels import simd

F = np.float32


@simd.inlined
def exp(x: Any, lanes: int) -> Any:
    """e^x; 0 below -87.33, where the result would be denormal; NaN stays NaN."""
    simd.target(lanes)
    magic = simd.splat(F(12582912.0), lanes)  # 1.5 * 2^23: adding it rounds to an integer, left in the low bits
    shifted = simd.fma(x, simd.splat(F(1.44269504088896341), lanes), magic)
    power = simd.sub(simd.as_int32(shifted), simd.as_int32(magic))
    rounded = simd.sub(shifted, magic)
    r = simd.fma(rounded, simd.splat(F(-0.693359375), lanes), x)
    r = simd.fma(rounded, simd.splat(F(2.12194440e-4), lanes), r)
    p = simd.splat(F(1.9875691500e-4), lanes)
    p = simd.fma(p, r, simd.splat(F(1.3981999507e-3), lanes))
    p = simd.fma(p, r, simd.splat(F(8.3334519073e-3), lanes))
    p = simd.fma(p, r, simd.splat(F(4.1665795894e-2), lanes))
    p = simd.fma(p, r, simd.splat(F(1.6666665459e-1), lanes))
    p = simd.fma(p, r, simd.splat(F(5.0000001201e-1), lanes))
    p = simd.add(simd.fma(p, simd.mul(r, r), r), simd.splat(F(1.0), lanes))
    # 2^power in two factors, for power = 128 has no float32 of its own
    half = simd.shr(simd.add(power, simd.splat(256, lanes)), simd.splat(1, lanes))
    rest = simd.sub(simd.add(power, simd.splat(256, lanes)), half)
    y = simd.mul(simd.mul(p, _power_of_two(half, lanes)), _power_of_two(rest, lanes))
    y = simd.choose(simd.greater_or_nan(x, simd.splat(F(-87.33654), lanes)), y, simd.splat(F(0.0), lanes))
    return simd.choose(simd.greater(x, simd.splat(F(88.722839), lanes)), simd.splat(F(np.inf), lanes), y)


@simd.inlined
def _power_of_two(n: Any, lanes: int) -> Any:
    """2^(n - 128) for integers n."""
    return simd.as_float(simd.shl(simd.sub(n, simd.splat(1, lanes)), simd.splat(23, lanes)))


@simd.inlined
def log(x: Any, lanes: int) -> Any:
    """Natural logarithm of normal positive numbers; infinity and NaN stay what they are."""
    simd.target(lanes)
    one = simd.splat(F(1.0), lanes)
    pattern = simd.as_int32(x)
    # mantissa in [sqrt(1/2), sqrt(2)): shift the exponent's boundary from 1 to sqrt(1/2) before splitting
    offset = simd.sub(pattern, simd.splat(0x3F3504F3, lanes))
    power = simd.to_float(
        simd.sub(
            simd.shr(simd.add(offset, simd.splat(0x3F800000, lanes)), simd.splat(23, lanes)), simd.splat(127, lanes)
        )
    )
    mantissa = simd.add(simd.bit_and(offset, simd.splat(0x007FFFFF, lanes)), simd.splat(0x3F3504F3, lanes))
    r = simd.sub(simd.as_float(mantissa), one)
    z = simd.mul(r, r)
    p = simd.splat(F(7.0376836292e-2), lanes)
    p = simd.fma(p, r, simd.splat(F(-1.1514610310e-1), lanes))
    p = simd.fma(p, r, simd.splat(F(1.1676998740e-1), lanes))
    p = simd.fma(p, r, simd.splat(F(-1.2420140846e-1), lanes))
    p = simd.fma(p, r, simd.splat(F(1.4249322787e-1), lanes))
    p = simd.fma(p, r, simd.splat(F(-1.6668057665e-1), lanes))
    p = simd.fma(p, r, simd.splat(F(2.0000714765e-1), lanes))
    p = simd.fma(p, r, simd.splat(F(-2.4999993993e-1), lanes))
    p = simd.fma(p, r, simd.splat(F(3.3333331174e-1), lanes))
    y = simd.mul(simd.mul(p, r), z)
    y = simd.fma(power, simd.splat(F(-2.12194440e-4), lanes), y)
    y = simd.fma(z, simd.splat(F(-0.5), lanes), y)
    y = simd.fma(power, simd.splat(F(0.693359375), lanes), simd.add(r, y))
    return simd.choose(simd.greater_or_nan(simd.splat(F(np.inf), lanes), x), simd.choose(simd.any_nan(x, x), x, y), x)

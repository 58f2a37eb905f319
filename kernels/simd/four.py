"""One number from each of four vectors at once: half the instructions of doing it four times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types

from kernels.simd.base import I8, I16, I32, I64, Vector, call_llvm, intrinsic


@intrinsic
def largest_of_four(typing: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """The largest lane of each of four float32 vectors without NaN, as the lanes of a vector of four."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _each(builder, arguments, lambda x, y: builder.select(builder.fcmp_ordered(">", x, y), x, y))

    return Vector(types.float32, 4)(a, a, a, a), emit


@intrinsic
def smallest_of_four(typing: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """The smallest lane of each of four int32 vectors, as the lanes of a vector of four."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _each(builder, arguments, lambda x, y: builder.select(builder.icmp_signed("<", x, y), x, y))

    return Vector(types.int32, 4)(a, a, a, a), emit


@intrinsic
def bits_of_four(typing: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Four masks of at most 16 lanes as one integer, lane 0 of the first in bit 0."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = a.lanes
        if lanes == 8:
            return _bits_of_four_by_packing(builder, arguments)
        ab, cd = (_mixed(builder, arguments[i], arguments[i + 1], range(2 * lanes)) for i in (0, 2))
        mask = _mixed(builder, ab, cd, range(4 * lanes))
        number = builder.bitcast(mask, ir.IntType(4 * lanes))
        return number if lanes == 16 else builder.zext(number, I64)

    return types.int64(a, a, a, a), emit


def _bits_of_four_by_packing(builder: Any, masks: Any) -> Any:
    """Four masks of eight lanes as one integer, by AVX2's own instructions, named.

    They narrow inside each half of a register, so that one exchange across the halves has to follow. LLVM by itself
    puts three there, each of which takes as long as all the rest.
    """
    bytes_, words, numbers = ir.VectorType(I8, 32), ir.VectorType(I16, 16), ir.VectorType(I32, 8)
    a, b, c, d = (builder.sext(mask, numbers) for mask in masks)
    ab, cd = (call_llvm(builder, "llvm.x86.avx2.packssdw", words, [x, y]) for x, y in ((a, b), (c, d)))
    packed = builder.bitcast(call_llvm(builder, "llvm.x86.avx2.packsswb", bytes_, [ab, cd]), numbers)
    order = ir.Constant(numbers, [0, 4, 1, 5, 2, 6, 3, 7])
    sorted_ = builder.bitcast(builder.shuffle_vector(packed, ir.Constant(numbers, ir.Undefined), order), bytes_)
    return builder.zext(call_llvm(builder, "llvm.x86.avx2.pmovmskb", I32, [sorted_]), I64)


def _mixed(builder: Any, x: Any, y: Any, lanes: range | list[int]) -> Any:
    return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes)))


def _each(builder: Any, vectors: Any, combine: Callable[[Any, Any], Any]) -> Any:
    """Reduce four vectors: two steps inside each 128 bits, which leave a lane of each vector there, then by halves."""
    count = vectors[0].type.count
    quarters = range(0, count, 4)
    low = [start + i + other for start in quarters for i in (0, 1) for other in (0, count)]
    ab, cd = (_folded(builder, vectors[i], vectors[i + 1], low, combine) for i in (0, 2))
    low = [start + i + other for start in quarters for other in (0, count) for i in (0, 1)]
    found = _folded(builder, ab, cd, low, combine)
    while count > 4:
        count //= 2
        lower, upper = list(range(count)), list(range(count, 2 * count))
        found = combine(_mixed(builder, found, found, lower), _mixed(builder, found, found, upper))
    return found


def _folded(builder: Any, x: Any, y: Any, low: list[int], combine: Callable[[Any, Any], Any]) -> Any:
    """Combine these lanes of two vectors with those two further up."""
    return combine(_mixed(builder, x, y, low), _mixed(builder, x, y, [lane + 2 for lane in low]))

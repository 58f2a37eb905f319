"""The inner loop of products of 8-bit integers: a tile of rows of codes times a panel of int8 weights."""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types

from kernels.dense import GROUP, PANEL
from kernels.simd.base import F32, I8, I32, I64, address, call_llvm, constant, intrinsic, load_at, splatted

LANES = 16
CODE_ROWS = 12
"""Rows of a tile: with two vectors of each row the sums fill the registers."""
_WHOLE, _FLOATS = ir.VectorType(I32, LANES), ir.VectorType(F32, LANES)
_VECTOR_BYTES = LANES * GROUP


@intrinsic
def code_rows(
    typing: Any,
    a: Any, a_at: Any, a_stride: Any, steps: Any, sums: Any, first: Any,
    b: Any, b_at: Any, depth: Any,
    c: Any, c_at: Any, c_stride: Any,
    scale: Any, zero: Any, offsets: Any, bias: Any, column: Any,
    rows: Any, accumulate: Any,
) -> Any:  # fmt: skip
    """`c = ((a - 128) @ (b - zero)) * steps * scale + bias`, exact integers until the last line; needs AVX-512 VNNI.

    a: uint8; row i begins at flat `a_at + i * a_stride` and has `depth` (a multiple of 4) codes.
    steps, sums: float32 and int32, from `first` on: what a code of each row is worth, and the sum of `a - 128`.
    b: int8, a panel as `kernels.dense.grouped` lays it down, from `b_at` on.
    c: float32; row i begins at flat `c_at + i * c_stride`; with `accumulate` the result is added to it.
    scale, zero, offsets, bias: float32, int32, int32, float32, from `column` on; offsets are 128 times each column's
        sum of `b`.
    rows: 1 to `CODE_ROWS`.
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (
            a_, a_at_, a_stride_, steps_, sums_, first_, b_, b_at_, depth_, c_, c_at_, c_stride_,
            scale_, zero_, offsets_, bias_, column_, rows_,
        ) = arguments[:18]  # fmt: skip

        def columns_of(array_type: Any, array: Any, kind: Any) -> list[Any]:
            places = (builder.add(column_, I64(vector * LANES)) for vector in range(2))
            return [load_at(builder, address(context, builder, array_type, array, at, kind), kind) for at in places]

        def element(array_type: Any, array: Any, row: int, kind: Any) -> Any:
            at = builder.add(first_, I64(row))
            return load_at(builder, address(context, builder, array_type, array, at, kind), kind)

        panel = address(context, builder, b, b_, b_at_, I8)

        def totals(size: int, unroll: int) -> list[Any]:
            starts = [
                address(context, builder, a, a_, builder.add(a_at_, builder.mul(a_stride_, I64(row))), I8)
                for row in range(size)
            ]
            groups = builder.udiv(depth_, I64(GROUP))
            whole = builder.and_(groups, I64(-unroll))
            found = _loop(I64(0), whole, unroll, starts, [constant(_WHOLE, 0)] * (2 * size * unroll))
            while len(found) > 2 * size:
                half = len(found) // 2
                found = [builder.add(x, y) for x, y in zip(found[:half], found[half:], strict=True)]
            return found if unroll == 1 else _loop(whole, groups, 1, starts, found)

        def _loop(start: Any, end: Any, step: int, starts: list[Any], initial: list[Any]) -> list[Any]:
            entry = builder.block
            head, body, leave = (builder.append_basic_block(f"codes.{part}") for part in ("head", "body", "leave"))
            builder.branch(head)
            builder.position_at_end(head)
            k = builder.phi(I64)
            phis = [builder.phi(_WHOLE) for _ in initial]
            builder.cbranch(builder.icmp_signed("<", k, end), body, leave)
            builder.position_at_end(body)
            after: list[Any] = []
            size = 2 * len(starts)
            for u in range(step):
                at = builder.add(k, I64(u))
                after += _multiply_add(at, starts, phis[u * size : (u + 1) * size])
            for phi, before, now in zip(
                [k, *phis], [start, *initial], [builder.add(k, I64(step)), *after], strict=True
            ):
                phi.add_incoming(before, entry)
                phi.add_incoming(now, body)
            builder.branch(head)
            builder.position_at_end(leave)
            return phis

        def _multiply_add(k: Any, starts: list[Any], before: list[Any]) -> list[Any]:
            base = builder.mul(k, I64(PANEL * GROUP))
            beyond = builder.add(base, builder.mul(depth_, I64(PANEL)))
            weights = []
            for vector in range(2):
                # The processor's own prefetching ends with the page: ask for the next panel.
                ahead = builder.gep(panel, [builder.add(beyond, I64(vector * _VECTOR_BYTES))], source_etype=I8)
                call_llvm(builder, "llvm.prefetch.p0", ir.VoidType(), [ahead, I32(0), I32(2), I32(1)])
                pointer = builder.gep(panel, [builder.add(base, I64(vector * _VECTOR_BYTES))], source_etype=I8)
                weights.append(load_at(builder, builder.bitcast(pointer, _WHOLE.as_pointer()), _WHOLE))
            result = []
            offset = builder.mul(k, I64(GROUP))
            for row, pointer in enumerate(starts):
                place = builder.gep(pointer, [offset], source_etype=I8)
                value = splatted(builder, load_at(builder, builder.bitcast(place, I32.as_pointer()), I32), _WHOLE)
                for vector in range(2):
                    operands = [before[2 * row + vector], value, weights[vector]]
                    result.append(call_llvm(builder, "llvm.x86.avx512.vpdpbusd.512", _WHOLE, operands))
            return result

        def tile(size: int) -> None:
            found = totals(size, {1: 4, 2: 2, 3: 2}.get(size, 1))
            zeros, shifts = columns_of(zero, zero_, _WHOLE), columns_of(offsets, offsets_, _WHOLE)
            gains, biases = columns_of(scale, scale_, _FLOATS), columns_of(bias, bias_, _FLOATS)
            for row in range(size):
                worth = splatted(builder, element(steps, steps_, row, F32), _FLOATS)
                summed = splatted(builder, element(sums, sums_, row, I32), _WHOLE)
                for vector in range(2):
                    exact = builder.sub(found[2 * row + vector], shifts[vector])
                    exact = builder.sub(exact, builder.mul(zeros[vector], summed))
                    place = builder.add(builder.add(c_at_, builder.mul(c_stride_, I64(row))), I64(vector * LANES))
                    pointer = address(context, builder, c, c_, place, _FLOATS)
                    base = biases[vector]
                    if accumulate.literal_value:
                        base = builder.fadd(base, load_at(builder, pointer, _FLOATS))
                    gain = builder.fmul(gains[vector], worth)
                    operands = [builder.sitofp(exact, _FLOATS), gain, base]
                    builder.store(call_llvm(builder, "llvm.fma.v16f32", _FLOATS, operands), pointer, align=1)

        leave = builder.append_basic_block("codes.done")
        choice = builder.switch(rows_, leave)
        for size in range(1, CODE_ROWS + 1):
            block = builder.append_basic_block(f"codes.rows{size}")
            choice.add_case(I64(size), block)
            builder.position_at_end(block)
            tile(size)
            builder.branch(leave)
        builder.position_at_end(leave)
        return context.get_dummy_value()

    i = types.intp
    return types.void(a, i, i, steps, sums, i, b, i, i, c, i, i, scale, zero, offsets, bias, i, i, accumulate), emit

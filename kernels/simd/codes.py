"""The inner loop of products of integers: a tile of rows of codes times a panel of int8 weights."""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types

from kernels.dense import PANEL, ROUNDINGS
from kernels.simd.base import F32, I8, I16, I32, I64, address, call_llvm, constant, intrinsic, load_at, splatted, width
from kernels.simd.product import TILE_ROWS

_CODES_BYTES = 4
"""Of what one instruction multiplies in each column: four codes of 8 bits, or two of 16."""
_LINE_BYTES = 64


@intrinsic
def code_rows(
    typing: Any,
    a: Any, a_at: Any, a_stride: Any, steps: Any, sums: Any, first: Any,
    b: Any, b_at: Any, ahead: Any, depth: Any,
    c: Any, c_at: Any, c_stride: Any,
    scale: Any, zero: Any, offsets: Any, bias: Any, column: Any,
    rows: Any, lanes: Any, accumulate: Any,
) -> Any:  # fmt: skip
    """`c = ((a - middle) @ (b - zero)) * steps * scale + bias`, exact integers until the last line.

    What the codes are says `kernels.dense.ROUNDINGS` by lanes; 16 lanes need AVX-512 VNNI.

    a: row i begins at flat `a_at + i * a_stride` and has `depth` (a multiple of the group) codes.
    steps, sums: float32 and int32, from `first` on: what a code of each row is worth, and the sum of `a - middle`.
    b: int8, a panel as `kernels.dense.grouped` lays it down; its first of twice `lanes` columns is at `b_at`. What lies
        `ahead` bytes behind that is asked for meanwhile, as many bytes as are multiplied.
    c: float32; row i begins at flat `c_at + i * c_stride`; with `accumulate` the result is added to it.
    scale, zero, offsets, bias: float32, int32, int32, float32, from `column` on; offsets are `Rounding.offsets`.
    rows: 1 to `TILE_ROWS[lanes]`.
    """
    count = lanes.literal_value
    rounding = ROUNDINGS[count]
    whole_, floats = ir.VectorType(I32, count), ir.VectorType(F32, count)
    vector_bytes = count * rounding.group

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (
            a_, a_at_, a_stride_, steps_, sums_, first_, b_, b_at_, ahead_, depth_, c_, c_at_, c_stride_,
            scale_, zero_, offsets_, bias_, column_, rows_,
        ) = arguments[:19]  # fmt: skip

        def columns_of(array_type: Any, array: Any, kind: Any) -> list[Any]:
            places = (builder.add(column_, I64(vector * count)) for vector in range(2))
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
            groups = builder.udiv(depth_, I64(rounding.group))
            whole = builder.and_(groups, I64(-unroll))
            found = _loop(I64(0), whole, unroll, starts, [constant(whole_, 0)] * (2 * size * unroll))
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
            phis = [builder.phi(whole_) for _ in initial]
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
            base = builder.mul(k, I64(PANEL * rounding.group))
            asked = PANEL * rounding.group * 2 * count // PANEL
            beyond = builder.add(builder.mul(k, I64(asked)), ahead_)
            for line in range(0, asked, _LINE_BYTES):
                # The processor's own prefetching ends with the page: ask for the next panel.
                ahead = builder.gep(panel, [builder.add(beyond, I64(line))], source_etype=I8)
                call_llvm(builder, "llvm.prefetch.p0", ir.VoidType(), [ahead, I32(0), I32(2), I32(1)])
            weights = [_weights(builder.add(base, I64(vector * vector_bytes))) for vector in range(2)]
            result = []
            offset = builder.mul(k, I64(_CODES_BYTES))
            for row, pointer in enumerate(starts):
                place = builder.gep(pointer, [offset], source_etype=I8)
                value = splatted(builder, load_at(builder, builder.bitcast(place, I32.as_pointer()), I32), whole_)
                result += [_added(before[2 * row + vector], value, weights[vector]) for vector in range(2)]
            return result

        def _weights(place: Any) -> Any:
            pointer = builder.gep(panel, [place], source_etype=I8)
            if rounding.group == 4:
                return load_at(builder, builder.bitcast(pointer, whole_.as_pointer()), whole_)
            narrow = ir.VectorType(I8, vector_bytes)
            found = load_at(builder, builder.bitcast(pointer, narrow.as_pointer()), narrow)
            return builder.sext(found, ir.VectorType(I16, vector_bytes))

        def _added(total: Any, codes: Any, weights: Any) -> Any:
            if rounding.group == 4:
                return call_llvm(builder, "llvm.x86.avx512.vpdpbusd.512", whole_, [total, codes, weights])
            pairs = builder.bitcast(codes, weights.type)
            return builder.add(total, call_llvm(builder, "llvm.x86.avx2.pmadd.wd", whole_, [pairs, weights]))

        def tile(size: int) -> None:
            found = totals(size, {1: 4, 2: 2, 3: 2}.get(size, 1))
            zeros = columns_of(zero, zero_, whole_)
            shifts = columns_of(offsets, offsets_, whole_) if rounding.middle else [constant(whole_, 0)] * 2
            gains, biases = columns_of(scale, scale_, floats), columns_of(bias, bias_, floats)
            for row in range(size):
                worth = splatted(builder, element(steps, steps_, row, F32), floats)
                summed = splatted(builder, element(sums, sums_, row, I32), whole_)
                for vector in range(2):
                    exact = builder.sub(found[2 * row + vector], shifts[vector])
                    exact = builder.sub(exact, builder.mul(zeros[vector], summed))
                    place = builder.add(builder.add(c_at_, builder.mul(c_stride_, I64(row))), I64(vector * count))
                    pointer = address(context, builder, c, c_, place, floats)
                    base = biases[vector]
                    if accumulate.literal_value:
                        base = builder.fadd(base, load_at(builder, pointer, floats))
                    gain = builder.fmul(gains[vector], worth)
                    operands = [builder.sitofp(exact, floats), gain, base]
                    builder.store(call_llvm(builder, f"llvm.fma.{width(floats)}", floats, operands), pointer, align=1)

        leave = builder.append_basic_block("codes.done")
        choice = builder.switch(rows_, leave)
        for size in range(1, TILE_ROWS[count] + 1):
            block = builder.append_basic_block(f"codes.rows{size}")
            choice.add_case(I64(size), block)
            builder.position_at_end(block)
            tile(size)
            builder.branch(leave)
        builder.position_at_end(leave)
        return context.get_dummy_value()

    i = types.intp
    places = (a, i, i, steps, sums, i, b, i, i, i, c, i, i, scale, zero, offsets, bias, i, i)
    return types.void(*places, lanes, accumulate), emit

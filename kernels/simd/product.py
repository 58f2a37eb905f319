"""The inner loop of matrix products: a tile of rows of A times a panel of B, with every sum in a register."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types

from kernels.dense import PANEL
from kernels.simd.base import (
    F32,
    I8,
    I16,
    I32,
    I64,
    address,
    call_llvm,
    cgutils,
    constant,
    intrinsic,
    load_at,
    splatted,
    width,
)

TILE_ROWS = {8: 6, 16: 12}
"""Rows of a tile by the number of lanes: with two vectors of each row the sums fill the registers."""
STEADY_ROWS = 3
"""Rows of a tile of `steady_rows`."""
STEADY_CHAINS = {8: 2, 16: 4}
"""Chains of sums of each of its rows by the number of lanes: so many fill the registers."""


@dataclass(slots=True)
class _Tile:
    """Writes one tile of `rows` x `vectors` registers.

    Attributes:
        builder: Where to.
        kind: A vector of float32.
        element: What B has: float32, integers of 8 bits, or 16 bits that are halves.
        rows, vectors: Its size.
        a: A pointer to the first element of each row of A.
        b: A pointer to the tile's first column in the first row of the panel.
        zeros: For integers in B, what stands for 0 in each column; none for floats.
        ahead: Elements from here to the same place in the next panel.
    """

    builder: Any
    kind: Any
    element: Any
    rows: int
    vectors: int
    a: list[Any]
    b: Any
    zeros: list[Any]
    fma: Any
    ahead: Any

    def sums(self, depth: Any, unroll: int) -> list[Any]:
        """The sums over `depth`, row by row; `unroll` independent chains of each, since one would wait for itself."""
        builder = self.builder
        size = self.rows * self.vectors
        whole = builder.and_(depth, I64(-unroll))  # a power of two
        chains = self._loop(I64(0), whole, unroll, [constant(self.kind, 0.0)] * (size * unroll))
        while len(chains) > size:
            half = len(chains) // 2
            chains = [builder.fadd(x, y) for x, y in zip(chains[:half], chains[half:], strict=True)]
        return chains if unroll == 1 else self._loop(whole, depth, 1, chains)

    def _loop(self, start: Any, end: Any, step: int, sums: list[Any]) -> list[Any]:
        builder, size = self.builder, self.rows * self.vectors
        entry = builder.block
        head, body, leave = (builder.append_basic_block(f"product.{part}") for part in ("head", "body", "leave"))
        builder.branch(head)
        builder.position_at_end(head)
        k = builder.phi(I64)
        phis = [builder.phi(self.kind) for _ in sums]
        builder.cbranch(builder.icmp_signed("<", k, end), body, leave)
        builder.position_at_end(body)
        after: list[Any] = []
        for u in range(step):
            if (
                self.element != I8 or u % 2 == 0
            ):  # a cache line holds two rows of integers, one of halves, half of floats
                self._prefetch(builder.add(k, I64(u)))
            after += self._multiply_add(builder.add(k, I64(u)), phis[u * size : (u + 1) * size])
        for phi, before, now in zip([k, *phis], [start, *sums], [builder.add(k, I64(step)), *after], strict=True):
            phi.add_incoming(before, entry)
            phi.add_incoming(now, body)
        builder.branch(head)
        builder.position_at_end(leave)
        return phis

    def _prefetch(self, k: Any) -> None:
        """Ask for what lies `ahead` elements behind row k: the processor's own prefetching ends with the page."""
        index = self.builder.add(self.builder.mul(k, I64(PANEL)), self.ahead)
        pointer = self.builder.gep(self.b, [index], source_etype=self.element)
        call_llvm(self.builder, "llvm.prefetch.p0", ir.VoidType(), [pointer, I32(0), I32(2), I32(1)])

    def _multiply_add(self, k: Any, sums: list[Any]) -> list[Any]:
        """Add column k of A times row k of B to the sums."""
        builder, result = self.builder, []
        panel = [self._weights(k, vector) for vector in range(self.vectors)]
        for row, pointer in enumerate(self.a):
            value = splatted(builder, load_at(builder, builder.gep(pointer, [k], source_etype=F32), F32), self.kind)
            for vector, weights in enumerate(panel):
                result.append(builder.call(self.fma, [value, weights, sums[row * self.vectors + vector]]))
        return result

    def _weights(self, k: Any, vector: int) -> Any:
        """A vector of row k of the panel as float32; integers and halves are converted here, in registers."""
        builder, lanes = self.builder, self.kind.count
        index = builder.add(builder.mul(k, I64(PANEL)), I64(vector * lanes))
        pointer = builder.gep(self.b, [index], source_etype=self.element)
        kind = ir.VectorType(self.element, lanes)
        found = load_at(builder, builder.bitcast(pointer, kind.as_pointer()), kind)
        if self.element == F32:
            return found
        if self.element == I16:
            return builder.fpext(builder.bitcast(found, ir.VectorType(ir.HalfType(), lanes)), self.kind)
        wide = builder.sext(found, ir.VectorType(I32, lanes))
        return builder.sitofp(builder.sub(wide, self.zeros[vector]), self.kind)


def _typed(
    most: int, chains: dict[int, int],
    a: Any, b: Any, c: Any, scale: Any, zero: Any, bias: Any, lanes: Any, accumulate: Any,
) -> Any:  # fmt: skip
    """The signature of a product and what writes it, for tiles of up to `most` rows with so many chains each."""
    element = {types.float32: F32, types.int8: I8, types.uint16: I16}[b.dtype]
    integers = element == I8
    count = lanes.literal_value
    kind, whole = ir.VectorType(F32, count), ir.VectorType(I32, count)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a_, a_at_, a_stride_, b_, b_at_, depth_, c_, c_at_, c_stride_, scale_, zero_, bias_, column_, rows_ = arguments[
            :14
        ]
        declared = ir.FunctionType(kind, [kind] * 3)
        fma = cgutils.get_or_insert_function(builder.module, declared, f"llvm.fma.{width(kind)}")

        def vectors_of(array_type: Any, array: Any, what: Any) -> list[Any]:
            places = (builder.add(column_, I64(vector * count)) for vector in range(2))
            return [load_at(builder, address(context, builder, array_type, array, at, what), what) for at in places]

        def tile(size: int) -> None:
            starts = [builder.add(a_at_, builder.mul(a_stride_, I64(row))) for row in range(size)]
            sums = _Tile(
                builder,
                kind,
                element,
                size,
                2,
                [address(context, builder, a, a_, start, F32) for start in starts],
                address(context, builder, b, b_, b_at_, element),
                vectors_of(zero, zero_, whole) if integers else [],
                fma,
                builder.mul(depth_, I64(PANEL)),
            ).sums(depth_, chains.get(size, 1))
            gains = vectors_of(scale, scale_, kind) if integers else []
            offsets = None if bias is types.none else vectors_of(bias, bias_, kind)
            for index, value in enumerate(sums):
                row, vector = divmod(index, 2)
                place = builder.add(builder.add(c_at_, builder.mul(c_stride_, I64(row))), I64(vector * count))
                pointer = address(context, builder, c, c_, place, kind)
                base = None if offsets is None else offsets[vector]
                if accumulate.literal_value:
                    before = load_at(builder, pointer, kind)
                    base = before if base is None else builder.fadd(base, before)
                done = builder.call(fma, [value, gains[vector], base]) if integers else builder.fadd(value, base)
                builder.store(done, pointer, align=1)

        leave = builder.append_basic_block("product.done")
        choice = builder.switch(rows_, leave)
        for size in range(1, most + 1):
            block = builder.append_basic_block(f"product.rows{size}")
            choice.add_case(I64(size), block)
            builder.position_at_end(block)
            tile(size)
            builder.branch(leave)
        builder.position_at_end(leave)
        return context.get_dummy_value()

    i = types.intp
    places = (a, i, i, b, i, i, c, i, i, scale, zero, bias, i, i)
    return types.void(*places, lanes, accumulate), emit


@intrinsic
def product_rows(
    typing: Any,
    a: Any, a_at: Any, a_stride: Any,
    b: Any, b_at: Any, depth: Any,
    c: Any, c_at: Any, c_stride: Any,
    scale: Any, zero: Any, bias: Any, column: Any,
    rows: Any, lanes: Any, accumulate: Any,
) -> Any:  # fmt: skip
    """`c = (a @ (b - zero)) * scale + bias`, for 1 to `TILE_ROWS[lanes]` rows and twice `lanes` columns.

    a: float32; row i begins at flat `a_at + i * a_stride` and has `depth` elements. Rows may overlap.
    b: float32, int8, or the bits of float16 as uint16; row k of the panel begins at flat `b_at + k * PANEL`.
    c: float32; row i begins at flat `c_at + i * c_stride`; with `accumulate` the result is added to it.
    scale, zero, bias: float32, int32, float32, from `column` on; panels of floats are neither shifted nor scaled.
        With `accumulate` the bias may be `None`: it has been added before.
    """
    return _typed(TILE_ROWS[lanes.literal_value], {1: 4, 2: 2, 3: 2}, a, b, c, scale, zero, bias, lanes, accumulate)


@intrinsic
def steady_rows(
    typing: Any,
    a: Any, a_at: Any, a_stride: Any,
    b: Any, b_at: Any, depth: Any,
    c: Any, c_at: Any, c_stride: Any,
    scale: Any, zero: Any, bias: Any, column: Any,
    rows: Any, lanes: Any, accumulate: Any,
) -> Any:  # fmt: skip
    """`product_rows` for 1 to `STEADY_ROWS` rows, each summed in the same order however many there are."""
    chains = dict.fromkeys(range(1, STEADY_ROWS + 1), STEADY_CHAINS[lanes.literal_value])
    return _typed(STEADY_ROWS, chains, a, b, c, scale, zero, bias, lanes, accumulate)

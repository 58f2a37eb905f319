"""Tiles of a matrix transposed in registers."""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types

from kernels.simd.base import F32, I32, I64, address, intrinsic, load_at


def _tile_rows(builder: Any, rows: list[Any]) -> list[Any]:
    """Transpose `lanes` vectors of `lanes` float32: two stages within 128-bit lanes, then whole 128-bit lanes."""
    lanes = len(rows)
    quarters = lanes // 4

    def shuffle(x: Any, y: Any, pattern: list[int]) -> Any:
        return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, len(pattern)), pattern))

    def within(x: Any, y: Any, pick: tuple[int, int, int, int]) -> Any:
        """The same choice of four in each 128-bit lane: 0 to 3 from x, 4 to 7 from y."""
        return shuffle(x, y, [4 * q + p + (lanes - 4 if p > 3 else 0) for q in range(quarters) for p in pick])

    columns: list[list[Any]] = []  # [group of four rows][column of four]: a vector with that column of each lane
    for group in range(quarters):
        a, b, c, d = rows[4 * group : 4 * group + 4]
        ab_low, ab_high = within(a, b, (0, 4, 1, 5)), within(a, b, (2, 6, 3, 7))
        cd_low, cd_high = within(c, d, (0, 4, 1, 5)), within(c, d, (2, 6, 3, 7))
        columns.append([
            within(ab_low, cd_low, (0, 1, 4, 5)), within(ab_low, cd_low, (2, 3, 6, 7)),
            within(ab_high, cd_high, (0, 1, 4, 5)), within(ab_high, cd_high, (2, 3, 6, 7)),
        ])  # fmt: skip

    def blocks(x: Any, y: Any, pick: tuple[tuple[int, int], ...]) -> Any:
        """Whole 128-bit lanes: (0, k) from x, (1, k) from y."""
        return shuffle(x, y, [source * lanes + 4 * k + i for source, k in pick for i in range(4)])

    result: list[Any] = [None] * lanes
    for c in range(4):
        parts = [columns[group][c] for group in range(quarters)]
        if quarters == 2:
            result[c] = blocks(parts[0], parts[1], ((0, 0), (1, 0)))
            result[4 + c] = blocks(parts[0], parts[1], ((0, 1), (1, 1)))
            continue
        low01 = blocks(parts[0], parts[1], ((0, 0), (0, 2), (1, 0), (1, 2)))
        high01 = blocks(parts[0], parts[1], ((0, 1), (0, 3), (1, 1), (1, 3)))
        low23 = blocks(parts[2], parts[3], ((0, 0), (0, 2), (1, 0), (1, 2)))
        high23 = blocks(parts[2], parts[3], ((0, 1), (0, 3), (1, 1), (1, 3)))
        result[c] = blocks(low01, low23, ((0, 0), (0, 2), (1, 0), (1, 2)))
        result[4 + c] = blocks(high01, high23, ((0, 0), (0, 2), (1, 0), (1, 2)))
        result[8 + c] = blocks(low01, low23, ((0, 1), (0, 3), (1, 1), (1, 3)))
        result[12 + c] = blocks(high01, high23, ((0, 1), (0, 3), (1, 1), (1, 3)))
    return result


@intrinsic
def transpose_tile(
    typing: Any, source: Any, index: Any, stride: Any, target: Any, to: Any, to_stride: Any, lanes: Any
) -> Any:
    """Copy a tile of `lanes` x `lanes` float32 with its rows as columns, in registers.

    The tile begins at flat `index` of `source` with rows `stride` elements apart, and at `to` of `target`.
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.VectorType(F32, lanes.literal_value)

        def pointer(array_type: Any, which: int, row: int) -> Any:
            array, start, step = arguments[which : which + 3]
            offset = builder.add(start, builder.mul(step, I64(row)))
            return address(context, builder, array_type, array, offset, kind)

        rows = [load_at(builder, pointer(source, 0, row), kind) for row in range(kind.count)]
        for row, vector in enumerate(_tile_rows(builder, rows)):
            builder.store(vector, pointer(target, 3, row), align=1)
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, target, types.intp, types.intp, lanes), emit

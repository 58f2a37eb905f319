"""A step of a streaming model as one compiled loop over all streams of a batch.

Products run over the rows of all streams together; keys and values stay where they are, each stream's in a ring of its
own, so that nothing of a stream's state is copied into a batch and back. Keys are remembered as they were rotated at
their own positions: only differences of positions count.

Layouts are those of `kernels.simd_dense`; WIDTH is 416, a head 52 of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.compile import Loop, compile_loop
from kernels.dense import BLOCK_ROWS
from pipelines.acoustic.simd_loops import HEAD_WIDTH, HEADS, PADDED, PAIRS, WIDTH, panels_of, rounding_types

CARRY = 511
"""Samples before its own that the first frame of a step hears."""
GROUP_ROWS, GROUP_CODES = 96, 48
"""Rows of A that go through all panels of a convolution before the next ones: of numbers, and of their codes."""
_FLOATS = "float32[::1]"


def ring_sizes(layers: int, ring: int) -> tuple[int, int]:
    """Floats of a stream's keys and of its values, with room for `ring` frames."""
    return layers * HEADS * panels_of(ring) * HEAD_WIDTH, layers * HEADS * ring * 64


def stream_scratch(streams: int, frames: int, ring: int, ranks: tuple[int, int]) -> int:
    """Floats that `stream_loop` needs for a step of so many frames of each stream."""
    rows = streams * frames
    stem = streams * ((6 * frames + 7) * WIDTH + (2 * frames + 1) * 2 * WIDTH)
    stem += streams * max((2 * frames + 1) * ranks[0], frames * ranks[1])
    layers = rows * (WIDTH + 4 * WIDTH + PADDED) + frames * panels_of(ring)
    return rows * WIDTH + max(stem, layers)


def stream_codes(frames: int) -> tuple[int, int]:
    """Codes, and rows of them, that `stream_loop` needs room for where rows are rounded."""
    most = max(GROUP_CODES, 2 * frames + 1)
    return max(most * 7 * WIDTH, BLOCK_ROWS * 4 * WIDTH), max(most, BLOCK_ROWS)


def stream_loop(lanes: int, kind: str) -> Loop:
    """One step of all streams of a batch; returns the frames of a stream.

    `(samples, streams, conv1, weights, scale, bias, gains, rank2, rank3, layers, head, slots, starts, keys, values,
    ring, left, angles, nothing, whole, scratch, logits, codes, steps, sums)`, with

    samples: float32 (streams, CARRY + 384 frames), flat.
    conv1: float32 panels of the first convolution.
    weights: panels of everything behind it, of this `kind`: `float32`, `uint16` (the bits of float16), or `int8`, which
        are grouped (`kernels.simd_codes`).
    scale (for int8 alone), bias: for every output.
    gains: what the inputs of the second and the third convolution are multiplied by; then those of the norms, in the
        order of their use.
    rank2, rank3: of the second and third convolution, where each is two products, whole panels; else 0.
    head: outputs of the last product, whole panels.
    slots, starts: int64 (streams,): which ring, and how many frames it has had.
    keys, values: the rings of all slots (see `ring_sizes`) for `ring` frames, of which a frame sees `left` before its
        step.
    angles: float32 (streams * frames, 2 * PAIRS), flat.
    nothing: float32 zeros and whole: int32 zeros, one for each column of the widest product.
    logits: float32 (streams * frames * head,).
    codes, steps, sums: what `stream_codes` says, of the codes' dtype, float32 and int32.
    """
    from kernels import simd, simd_codes, simd_dense

    rounded = kind == "int8"
    product = simd_codes.multiply if rounded else simd_dense.multiply_exactly
    width, heads, head_width, pairs, padded = WIDTH, HEADS, HEAD_WIDTH, PAIRS, PADDED
    carry, group_rows, group_codes = CARRY, GROUP_ROWS, GROUP_CODES
    query_scale = np.float32(HEAD_WIDTH**-0.5)

    @simd.shared
    def convolve(
        a: Any, a_at: int, a_pitch: int, a_stride: int, streams: int, rows: int, depth: int,
        b: Any, b_at: int, c: Any, c_at: int, columns: int, whole: Any, bias: Any, column: int, lanes: int,
    ) -> None:  # fmt: skip
        """`simd_dense.multiply` of `rows` rows of each stream, whose A begins `a_pitch` behind the last one's."""
        simd.target(lanes)
        together = max(1, group_rows // rows)
        for block in range(0, streams, together):
            simd_dense.multiply_windows(
                a, a_at + block * a_pitch, a_pitch, a_stride, min(together, streams - block), rows, depth,
                b, b_at, depth * 32, c, c_at + block * rows * columns, rows * columns, columns, columns,
                bias, whole, bias, column, False, lanes,
            )  # fmt: skip

    @simd.shared
    def lift(x: Any, start: int, rows: int, columns: int, gains: Any, gain: int, lanes: int) -> None:
        """Multiply every column by its gain, in place."""
        simd.target(lanes)
        for row in range(rows):
            base = start + row * columns
            for i in range(0, columns, lanes):
                simd.store(x, base + i, simd.mul(simd.load(x, base + i, lanes), simd.load(gains, gain + i, lanes)))

    @simd.shared
    def convolve_exactly(
        a: Any, a_at: int, a_pitch: int, a_stride: int, streams: int, rows: int, depth: int,
        b: Any, b_at: int, c: Any, c_at: int, columns: int, scale: Any, whole: Any, bias: Any, column: int,
        codes: Any, steps: Any, sums: Any, lanes: int,
    ) -> None:  # fmt: skip
        simd.target(lanes)
        convolve(
            a, a_at, a_pitch, a_stride, streams, rows, depth, b, b_at, c, c_at, columns, whole, bias, column, lanes
        )

    @simd.shared
    def convolve_codes(
        a: Any, a_at: int, a_pitch: int, a_stride: int, streams: int, rows: int, depth: int,
        b: Any, b_at: int, c: Any, c_at: int, columns: int, scale: Any, whole: Any, bias: Any, column: int,
        codes: Any, steps: Any, sums: Any, lanes: int,
    ) -> None:  # fmt: skip
        """`convolve` with rows rounded: those of several streams lie behind each other then."""
        simd.target(lanes)
        together = max(1, group_codes // rows)
        for block in range(0, streams, together):
            some = min(together, streams - block)
            for stream in range(some):
                simd_codes.encode(
                    a, a_at + (block + stream) * a_pitch, a_stride, rows, depth, codes, steps, sums, stream * rows,
                    lanes,
                )  # fmt: skip
            simd_codes.multiply_codes(
                codes, steps, sums, some * rows, depth, b, b_at, c, c_at + block * rows * columns, columns, columns,
                scale, whole, whole, bias, column, False, lanes,
            )  # fmt: skip

    strided = convolve_codes if rounded else convolve_exactly

    @simd.shared
    def factored(
        a: Any, a_at: int, a_pitch: int, a_stride: int, streams: int, rows: int, depth: int, rank: int, between: int,
        b: Any, b_at: int, c: Any, c_at: int, columns: int, scale: Any, whole: Any, bias: Any, column: int,
        codes: Any, steps: Any, sums: Any, lanes: int,
    ) -> None:  # fmt: skip
        """`strided`, or two products by way of `rank` columns, which lie `between` in the array of the result."""
        simd.target(lanes)
        if rank == 0:
            strided(
                a, a_at, a_pitch, a_stride, streams, rows, depth, b, b_at, c, c_at, columns, scale, whole, bias, column,
                codes, steps, sums, lanes,
            )  # fmt: skip
        else:
            strided(
                a, a_at, a_pitch, a_stride, streams, rows, depth, b, b_at, c, between, rank, scale, whole, bias, column,
                codes, steps, sums, lanes,
            )  # fmt: skip
            product(
                c, between, rank, streams * rows, rank, b, b_at + depth * rank, c, c_at, columns, columns,
                scale, whole, whole, bias, column + rank, codes, steps, sums, False, lanes,
            )  # fmt: skip

    @simd.shared
    def attend(
        x: Any, q_at: int, rows: int, keys: Any, k_at: int, values: Any, v_at: int, ring: int, count: int,
        stale: int, gone: int, scores: Any, s_at: int, o_at: int, nothing: Any, whole: Any, lanes: int,
    ) -> None:  # fmt: skip
        """One head over `count` places of a ring, but for `gone` of them from place `stale` on."""
        simd.target(lanes)
        size = (count + 31) // 32 * 32
        simd_dense.multiply(
            x, q_at, 3 * width, rows, head_width, keys, k_at, head_width * 32, scores, s_at, size, size,
            nothing, whole, nothing, 0, False, lanes,
        )  # fmt: skip
        for row in range(rows):
            for i in range(0, size, lanes):
                at = s_at + row * size + i
                simd.store(scores, at, simd.mul(simd.load(scores, at, lanes), simd.splat(query_scale, lanes)))
            for k in range(gone):
                simd.put(scores, s_at + row * size + (stale + k) % ring, simd_dense.F(-1e30))
            simd_dense.softmax(scores, s_at + row * size, count, size, lanes)
        simd_dense.multiply(
            scores, s_at, size, rows, count, values, v_at, ring * 32, scores, o_at, padded, 64,
            nothing, whole, nothing, 0, False, lanes,
        )  # fmt: skip

    @compile_loop(
        f"int64({_FLOATS}, int64, {_FLOATS}, {kind}[::1], {_FLOATS}, {_FLOATS}, {_FLOATS}, "
        f"int64, int64, int64, int64, int64[::1], int64[::1], {_FLOATS}, {_FLOATS}, int64, int64, {_FLOATS}, "
        f"{_FLOATS}, int32[::1], {_FLOATS}, {_FLOATS}, {rounding_types(lanes)})"
    )
    def loop(  # type: ignore[no-untyped-def]
        samples, streams, conv1, weights, scale, bias, gains, rank2, rank3, layers, head, slots, starts, keys, values,
        ring, left, angles, nothing, whole, scratch, logits, codes, steps, sums,
    ):  # fmt: skip
        simd.target(lanes)
        pitch = samples.size // streams
        frames = (pitch - carry) // 384
        rows = streams * frames
        if frames < 1 or left + frames > ring or slots.size < streams or starts.size < streams:
            return -1
        if angles.size < rows * 2 * pairs or logits.size < rows * head or nothing.size < 4 * width:
            return -1
        if rounded and (codes.size < (2 * frames + 1) * 7 * width or steps.size < 2 * frames + 1):
            return -1
        key_size = heads * ((ring + 31) // 32 * 32) * head_width
        value_size = heads * ring * 64
        for stream in range(streams):
            if slots[stream] < 0 or (slots[stream] + 1) * layers * key_size > keys.size:
                return -2
            if (slots[stream] + 1) * layers * value_size > values.size:
                return -2
        # the stem
        first, second = 6 * frames + 7, 2 * frames + 1
        x = 0
        stem1 = rows * width
        stem2 = stem1 + streams * first * width
        between = stem2 + streams * second * 2 * width
        if scratch.size < between + streams * max(second * rank2, frames * rank3):
            return -3
        convolve(samples, 0, pitch, 64, streams, first, 127, conv1, 0, scratch, stem1, width, whole, nothing, 0, lanes)
        simd_dense.tanh(scratch, stem1, streams * first * width, lanes)
        at = column = gain = 0
        lift(scratch, stem1, streams * first, width, gains, gain, lanes)
        gain += width
        factored(
            scratch, stem1, first * width, 3 * width, streams, second, 7 * width, rank2, between, weights, at,
            scratch, stem2, 2 * width, scale, whole, bias, column, codes, steps, sums, lanes,
        )  # fmt: skip
        simd_dense.gelu(scratch, stem2, streams * second * 2 * width, lanes)
        lift(scratch, stem2, streams * second, 2 * width, gains, gain, lanes)
        gain += 2 * width
        at += 7 * width * 2 * width if rank2 == 0 else rank2 * (7 * width + 2 * width)
        column += rank2 + 2 * width
        factored(
            scratch, stem2, second * 2 * width, 4 * width, streams, frames, 6 * width, rank3, between, weights, at,
            scratch, x, width, scale, whole, bias, column, codes, steps, sums, lanes,
        )  # fmt: skip
        simd_dense.gelu(scratch, x, rows * width, lanes)
        at += 6 * width * width if rank3 == 0 else rank3 * (6 * width + width)
        column += rank3 + width
        # the layers
        normed = rows * width
        wide = normed + rows * width
        mixed = wide + rows * 4 * width
        scores = mixed + rows * padded
        if scratch.size < scores + frames * ((ring + 31) // 32 * 32):
            return -3
        for layer in range(layers):
            simd_dense.layer_norm(scratch, x, scratch, normed, rows, width, gains, gain, lanes)
            product(
                scratch, normed, width, rows, width, weights, at, scratch, wide, 3 * width, 3 * width,
                scale, whole, whole, bias, column, codes, steps, sums, False, lanes,
            )  # fmt: skip
            at += width * 3 * width
            column += 3 * width
            simd_dense.rotate(scratch, wide, 3 * width, rows, 2 * heads, head_width, angles, 0, pairs)
            for stream in range(streams):
                begun = starts[stream]
                place = begun % ring
                count = min(begun + frames, ring)
                gone = max(0, count - (left + frames))  # still in the ring, and out of sight of a short step
                stale = (begun + frames) % ring if count == ring else 0
                before = min(frames, ring - place)
                row = wide + stream * frames * 3 * width
                for one in range(heads):
                    query = row + one * head_width
                    k_at = (slots[stream] * layers + layer) * key_size + one * (key_size // heads)
                    v_at = (slots[stream] * layers + layer) * value_size + one * (value_size // heads)
                    simd_dense.remember(
                        scratch, query + width, query + 2 * width, 3 * width, before, place,
                        keys, k_at, values, v_at, ring, head_width, lanes,
                    )  # fmt: skip
                    if before < frames:
                        rest = query + before * 3 * width
                        simd_dense.remember(
                            scratch, rest + width, rest + 2 * width, 3 * width, frames - before, 0,
                            keys, k_at, values, v_at, ring, head_width, lanes,
                        )  # fmt: skip
                    attend(
                        scratch, query, frames, keys, k_at, values, v_at, ring, count, stale, gone,
                        scratch, scores, mixed + stream * frames * padded + one * head_width, nothing, whole, lanes,
                    )  # fmt: skip
            product(
                scratch, mixed, padded, rows, width, weights, at, scratch, x, width, width,
                scale, whole, whole, bias, column, codes, steps, sums, True, lanes,
            )  # fmt: skip
            at += width * width
            column += width
            simd_dense.layer_norm(scratch, x, scratch, normed, rows, width, gains, gain + width, lanes)
            product(
                scratch, normed, width, rows, width, weights, at, scratch, wide, 4 * width, 4 * width,
                scale, whole, whole, bias, column, codes, steps, sums, False, lanes,
            )  # fmt: skip
            at += width * 4 * width
            column += 4 * width
            simd_dense.gelu(scratch, wide, rows * 4 * width, lanes)
            product(
                scratch, wide, 4 * width, rows, 4 * width, weights, at, scratch, x, width, width,
                scale, whole, whole, bias, column, codes, steps, sums, True, lanes,
            )  # fmt: skip
            at += 4 * width * width
            column += width
            gain += 2 * width
        simd_dense.layer_norm(scratch, x, scratch, normed, rows, width, gains, gain, lanes)
        product(
            scratch, normed, width, rows, width, weights, at, logits, 0, head, head,
            scale, whole, whole, bias, column, codes, steps, sums, False, lanes,
        )  # fmt: skip
        return frames

    return loop

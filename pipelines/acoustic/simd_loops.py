"""Moonshine as compiled loops: the whole encoder in one call, the whole decoder step in another.

A product reads the shipped int8 weights and converts them in registers: the numbers are those of FP32 (every weight
is its integer less the zero point, times the scale), the bytes a quarter. Convolutions are products over overlapping
rows of their input, so nothing is copied for them.

Layouts are those of `pipelines.models.panels` and `kernels.simd_dense`; WIDTH is 416, a head 52 of it.
"""

from __future__ import annotations

import numpy as np

from kernels.compile import Loop, compile_loop
from kernels.dense import ROUNDINGS
from pipelines.models import moonshine

WIDTH, HEADS, HEAD_WIDTH, LAYERS = moonshine.WIDTH, moonshine.HEADS, moonshine.HEAD_WIDTH, moonshine.LAYERS
PAIRS = moonshine.ROTARY_WIDTH // 2
PADDED = WIDTH + 16
"""A row of attended values: the last head writes 64 columns for its 52."""
QUERY_ROWS = 48
"""Queries whose scores are held at once."""

_FLOATS = "float32[::1]"
_WEIGHTS = f"int8[::1], {_FLOATS}, int32[::1], {_FLOATS}, {_FLOATS}"
"""weights, scale, zero, bias, gains"""


def rounding_types(lanes: int) -> str:
    """Of the codes that rows are rounded to, their steps and sums."""
    return f"{np.dtype(ROUNDINGS[lanes].dtype)}[::1], {_FLOATS}, int32[::1]"


def panels_of(count: int) -> int:
    """`count` rounded up to whole panels, in elements."""
    return -(-count // 32) * 32


def encoder_scratch(first: int, second: int, rows: int) -> int:
    """Floats that `encoder_loop` needs for clips with so many rows after the first, second and third convolution."""
    stem = first * WIDTH + second * 2 * WIDTH
    layers = rows * (2 * WIDTH + 4 * WIDTH + PADDED)
    attention = panels_of(rows) * HEAD_WIDTH + 2 * rows * 32 + QUERY_ROWS * panels_of(rows)
    return max(stem + rows * WIDTH, layers + attention)


def encoder_loop(lanes: int) -> Loop:
    """`(samples, conv1, weights, scale, zero, bias, gains, nothing, angles, scratch, hidden)`.

    samples: float32 (n,); conv1: float32 panels; nothing: float32 zeros, one for each row rounded up to panels;
    angles: float32, 2 * PAIRS for each row (see `kernels.simd_dense.rotate`); hidden: float32 (rows * WIDTH,).
    """
    from kernels import simd, simd_dense

    width, heads, head_width, layers, pairs, padded = WIDTH, HEADS, HEAD_WIDTH, LAYERS, PAIRS, PADDED
    query_rows = QUERY_ROWS

    @compile_loop(f"int64({_FLOATS}, {_FLOATS}, {_WEIGHTS}, {_FLOATS}, {_FLOATS}, {_FLOATS}, {_FLOATS})")
    def loop(samples, conv1, weights, scale, zero, bias, gains, nothing, angles, scratch, hidden):  # type: ignore[no-untyped-def]
        simd.target(lanes)
        first = (samples.size - 127) // 64 + 1
        second = (first - 7) // 3 + 1
        rows = (second - 3) // 2 + 1
        if hidden.size != rows * width or nothing.size < rows + 31 or angles.size < rows * 2 * pairs:
            return -1
        # the stem: x lies where the layers leave it alone
        x, stem1 = 0, rows * width
        stem2 = stem1 + first * width
        simd_dense.multiply(
            samples, 0, 64, first, 127, conv1, 0, 127 * 32, scratch, stem1, width, width,
            scale, zero, nothing, 0, False, lanes,
        )  # fmt: skip
        simd_dense.tanh(scratch, stem1, first * width, lanes)
        simd_dense.normalise(scratch, stem1, first, width, gains, 0, width, lanes)
        at = column = 0
        simd_dense.multiply(
            scratch, stem1, 3 * width, second, 7 * width, weights, at, 7 * width * 32, scratch, stem2, 2 * width,
            2 * width, scale, zero, bias, column, False, lanes,
        )  # fmt: skip
        simd_dense.gelu(scratch, stem2, second * 2 * width, lanes)
        at += 7 * width * 2 * width
        column += 2 * width
        simd_dense.multiply(
            scratch, stem2, 4 * width, rows, 6 * width, weights, at, 6 * width * 32, scratch, x, width, width,
            scale, zero, bias, column, False, lanes,
        )  # fmt: skip
        simd_dense.gelu(scratch, x, rows * width, lanes)
        at += 6 * width * width
        column += width
        # the layers
        normed = rows * width
        wide = normed + rows * width
        mixed = wide + rows * 4 * width
        keys = mixed + rows * padded
        panels = (rows + 31) // 32 * 32
        values = keys + panels * head_width
        scores = values + 2 * rows * 32
        gain = 2 * width
        for _layer in range(layers):
            simd_dense.layer_norm(scratch, x, scratch, normed, rows, width, gains, gain, lanes)
            simd_dense.multiply(
                scratch, normed, width, rows, width, weights, at, width * 32, scratch, wide, 3 * width, 3 * width,
                scale, zero, bias, column, False, lanes,
            )  # fmt: skip
            at += width * 3 * width
            column += 3 * width
            simd_dense.rotate(scratch, wide, 3 * width, rows, 2 * heads, head_width, angles, 0, pairs)
            for head in range(heads):
                query = wide + head * head_width
                simd_dense.remember(
                    scratch, query + width, query + 2 * width, 3 * width, rows, 0,
                    scratch, keys, scratch, values, rows, head_width, lanes,
                )  # fmt: skip
                for block in range(0, rows, query_rows):
                    simd_dense.attend(
                        scratch, query + block * 3 * width, 3 * width, min(query_rows, rows - block),
                        scratch, keys, scratch, values, rows, rows, rows,
                        scratch, scores, scratch, mixed + block * padded + head * head_width, padded,
                        head_width, scale, zero, nothing, lanes,
                    )  # fmt: skip
            simd_dense.multiply(
                scratch, mixed, padded, rows, width, weights, at, width * 32, scratch, x, width, width,
                scale, zero, bias, column, True, lanes,
            )  # fmt: skip
            at += width * width
            column += width
            simd_dense.layer_norm(scratch, x, scratch, normed, rows, width, gains, gain + width, lanes)
            simd_dense.multiply(
                scratch, normed, width, rows, width, weights, at, width * 32, scratch, wide, 4 * width, 4 * width,
                scale, zero, bias, column, False, lanes,
            )  # fmt: skip
            at += width * 4 * width
            column += 4 * width
            simd_dense.gelu(scratch, wide, rows * 4 * width, lanes)
            simd_dense.multiply(
                scratch, wide, 4 * width, rows, 4 * width, weights, at, 4 * width * 32, scratch, x, width, width,
                scale, zero, bias, column, True, lanes,
            )  # fmt: skip
            at += 4 * width * width
            column += width
            gain += 2 * width
        simd_dense.layer_norm(scratch, x, hidden, 0, rows, width, gains, gain, lanes)
        return rows

    return loop


def cross_loop(lanes: int, rounded: bool) -> Loop:
    """What the decoder attends to in a clip; returns its rows.

    `(hidden, weights, scale, zero, bias, gains, scratch, keys, values, offsets, codes, steps, sums)`, with
    hidden: float32 (rows * WIDTH,); scratch: float32 (rows * 2 * WIDTH,); keys, values: `panels_of(rows)` times
    LAYERS * HEADS * HEAD_WIDTH and `rows` times LAYERS * HEADS * 64 float32, for `kernels.simd_dense.attend`;
    offsets, codes, steps, sums: as for `step_loop`, with WIDTH codes for each row.
    """
    from kernels import simd, simd_codes, simd_dense

    product = simd_codes.multiply if rounded else simd_dense.multiply_exactly

    width, heads, head_width, layers = WIDTH, HEADS, HEAD_WIDTH, LAYERS

    @compile_loop(f"int64({_FLOATS}, {_WEIGHTS}, {_FLOATS}, {_FLOATS}, {_FLOATS}, int32[::1], {rounding_types(lanes)})")
    def loop(  # type: ignore[no-untyped-def]
        hidden, weights, scale, zero, bias, gains, scratch, keys, values, offsets, codes, steps, sums,
    ):  # fmt: skip
        simd.target(lanes)
        rows = hidden.size // width
        panels = (rows + 31) // 32 * 32
        if keys.size < layers * heads * panels * head_width or values.size < layers * heads * rows * 64:
            return -1
        if scratch.size < rows * 2 * width:
            return -1
        if rounded and (codes.size < rows * width or steps.size < rows or sums.size < rows):
            return -1
        for layer in range(layers):
            product(
                hidden, 0, width, rows, width, weights, layer * 2 * width * width, scratch, 0, 2 * width, 2 * width,
                scale, zero, offsets, bias, layer * 2 * width, codes, steps, sums, False, lanes,
            )  # fmt: skip
            for head in range(heads):
                place = layer * heads + head
                simd_dense.remember(
                    scratch, head * head_width, width + head * head_width, 2 * width, rows, 0,
                    keys, place * panels * head_width, values, place * rows * 64, rows, head_width, lanes,
                )  # fmt: skip
        return rows

    return loop


def step_scratch(tokens: int, frames: int, max_tokens: int) -> int:
    """Floats that `step_loop` needs for steps of up to `tokens` tokens."""
    return tokens * (2 * WIDTH + 8 * WIDTH + PADDED + panels_of(max(frames, max_tokens)))


def step_loop(lanes: int, rounded: bool) -> Loop:
    """One decoder step; returns how many tokens there are now.

    `(tokens, past, weights, scale, zero, bias, gains, nothing, angles, cross_keys, cross_values, frames, keys, values,
    capacity, scratch, logits, offsets, codes, steps, sums)`, with
    tokens: int64 (n,), which follow `past` earlier ones; cross_keys, cross_values: as `cross_loop` fills them for
    `frames`; keys, values: the same for up to `capacity` (a multiple of 32) tokens; logits: float32 (n * 32768,).

    With `rounded`, the rows of every product are rounded to integers (`kernels.simd_codes`): the weights are then
    grouped panels with their `offsets`; codes, steps, sums: (n * 4 * WIDTH,) of the codes' dtype, float32 (n,) and
    int32 (n,) to round in; `values` must be finite everywhere. A step of many tokens gives bit for bit what single
    ones give.
    """
    from kernels import simd, simd_codes, simd_dense

    product, attend = (
        (simd_codes.multiply, simd_codes.attend) if rounded else (simd_dense.multiply_exactly, simd_dense.attend)
    )
    group = ROUNDINGS[lanes].group if rounded else 1

    width, heads, head_width, layers, pairs, padded = WIDTH, HEADS, HEAD_WIDTH, LAYERS, PAIRS, PADDED
    vocabulary = moonshine.VOCABULARY

    @compile_loop(
        f"int64(int64[::1], int64, {_WEIGHTS}, {_FLOATS}, {_FLOATS}, {_FLOATS}, {_FLOATS}, int64, "
        f"{_FLOATS}, {_FLOATS}, int64, {_FLOATS}, {_FLOATS}, int32[::1], {rounding_types(lanes)})"
    )
    def loop(  # type: ignore[no-untyped-def]
        tokens, past, weights, scale, zero, bias, gains, nothing, angles, cross_keys, cross_values, frames,
        keys, values, capacity, scratch, logits, offsets, codes, steps, sums,
    ):  # fmt: skip
        simd.target(lanes)
        rows = tokens.size
        total = past + rows
        if rows == 0 or past < 0 or total > capacity or capacity % 32 or logits.size < rows * vocabulary:
            return -1
        if keys.size < layers * heads * capacity * head_width or values.size < layers * heads * capacity * 64:
            return -1
        if rounded and (codes.size < rows * 4 * width or steps.size < rows or sums.size < rows):
            return -1
        table = layers * 18 * width * width  # where the embeddings begin among the weights
        for row in range(rows):
            token = tokens[row]
            if token < 0 or token >= vocabulary:
                return -2
            start = table + token // 32 * width * 32 + token % 32 * group
            place = layers * 15 * width + token
            for i in range(width):
                scratch[row * width + i] = (weights[start + i // group * 32 * group + i % group] - zero[place]) * scale[
                    place
                ]
        x, normed = 0, rows * width
        wide = normed + rows * width
        mixed = wide + rows * 8 * width
        scores = mixed + rows * padded
        frame_panels = (frames + 31) // 32 * 32
        at = column = gain = 0
        for layer in range(layers):
            simd_dense.layer_norm(scratch, x, scratch, normed, rows, width, gains, gain, lanes)
            product(
                scratch, normed, width, rows, width, weights, at, scratch, wide, 3 * width, 3 * width,
                scale, zero, offsets, bias, column, codes, steps, sums, False, lanes,
            )  # fmt: skip
            at += width * 3 * width
            column += 3 * width
            simd_dense.rotate(scratch, wide, 3 * width, rows, 2 * heads, head_width, angles, past, pairs)
            for head in range(heads):
                query, place = wide + head * head_width, layer * heads + head
                k_at, v_at = place * capacity * head_width, place * capacity * 64
                simd_dense.remember(
                    scratch, query + width, query + 2 * width, 3 * width, rows, past,
                    keys, k_at, values, v_at, capacity, head_width, lanes,
                )  # fmt: skip
                attend(
                    scratch, query, 3 * width, rows, keys, k_at, values, v_at, capacity, total, past + 1,
                    scratch, scores, scratch, mixed + head * head_width, padded, head_width,
                    scale, zero, nothing, lanes,
                )  # fmt: skip
            product(
                scratch, mixed, padded, rows, width, weights, at, scratch, x, width, width,
                scale, zero, offsets, bias, column, codes, steps, sums, True, lanes,
            )  # fmt: skip
            at += width * width
            column += width
            simd_dense.layer_norm(scratch, x, scratch, normed, rows, width, gains, gain + width, lanes)
            product(
                scratch, normed, width, rows, width, weights, at, scratch, wide, width, width,
                scale, zero, offsets, bias, column, codes, steps, sums, False, lanes,
            )  # fmt: skip
            at += width * width
            column += width
            for head in range(heads):
                place = layer * heads + head
                attend(
                    scratch, wide + head * head_width, width, rows,
                    cross_keys, place * frame_panels * head_width, cross_values, place * frames * 64, frames, frames,
                    frames, scratch, scores, scratch, mixed + head * head_width, padded, head_width,
                    scale, zero, nothing, lanes,
                )  # fmt: skip
            product(
                scratch, mixed, padded, rows, width, weights, at, scratch, x, width, width,
                scale, zero, offsets, bias, column, codes, steps, sums, True, lanes,
            )  # fmt: skip
            at += width * width
            column += width
            simd_dense.layer_norm(scratch, x, scratch, normed, rows, width, gains, gain + 2 * width, lanes)
            product(
                scratch, normed, width, rows, width, weights, at, scratch, wide, 8 * width, 8 * width,
                scale, zero, offsets, bias, column, codes, steps, sums, False, lanes,
            )  # fmt: skip
            at += width * 8 * width
            column += 8 * width
            simd_dense.swiglu(scratch, wide, rows, 4 * width, lanes)
            product(
                scratch, wide, 8 * width, rows, 4 * width, weights, at, scratch, x, width, width,
                scale, zero, offsets, bias, column, codes, steps, sums, True, lanes,
            )  # fmt: skip
            at += 4 * width * width
            column += width
            gain += 3 * width
        simd_dense.layer_norm(scratch, x, scratch, normed, rows, width, gains, gain, lanes)
        product(
            scratch, normed, width, rows, width, weights, at, logits, 0, vocabulary, vocabulary,
            scale, zero, offsets, bias, column, codes, steps, sums, False, lanes,
        )  # fmt: skip
        return total

    return loop

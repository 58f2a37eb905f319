"""The device's side of a ring step, in Triton (the compiler): one kernel for each operation of `ring_triton`.

Every product accumulates in FP32. Sizes of the model are constants of the compiler, sizes of the batch are not.
"""

# ruff: noqa: N803 - what the compiler has as constants is written in capitals, as everywhere in Triton

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def begin(frames_of, rows, turns, position, cos, sin, FRAMES: tl.constexpr, PAIRS: tl.constexpr, BF: tl.constexpr):
    """One program a stream: its position, the angles of its new frames, its counter moved on."""
    stream = tl.program_id(0)
    row = tl.load(rows + stream)
    first = tl.load(frames_of + row)
    step, pair = tl.arange(0, BF), tl.arange(0, PAIRS)
    each = tl.load(turns + pair)  # float64: positions have no end
    turned = (first + step).to(tl.float64)[:, None] * each[None, :]
    angle = ((turned - tl.floor(turned)) * 6.283185307179586).to(tl.float32)
    at = (stream * FRAMES + step)[:, None] * PAIRS + pair[None, :]
    real = (step < FRAMES)[:, None] & (pair >= 0)[None, :]
    tl.store(cos + at, tl.cos(angle), mask=real)
    tl.store(sin + at, tl.sin(angle), mask=real)
    tl.store(position + stream, first)
    tl.store(frames_of + row, first + FRAMES)


@triton.jit
def listen(
    carried, samples, rows, kernel, scale, offset, out, count,
    CARRY: tl.constexpr, SAMPLES: tl.constexpr, EACH: tl.constexpr, TAPS: tl.constexpr, STRIDE: tl.constexpr,
    WIDTH: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The first convolution over what is carried and what is new, tanh, scale and offset."""
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    stream = m // EACH
    there = m < count
    row = tl.load(rows + stream, mask=there, other=0)
    at = ((m % EACH) * STRIDE)[:, None] + k[None, :]
    real = there[:, None] & (k < TAPS)[None, :]
    old = tl.load(carried + row[:, None] * CARRY + at, mask=real & (at < CARRY), other=0.0)
    new = tl.load(samples + stream[:, None] * SAMPLES + at - CARRY, mask=real & (at >= CARRY), other=0.0)
    known = n < WIDTH
    w = tl.load(kernel + k[:, None] * WIDTH + n[None, :], mask=(k < TAPS)[:, None] & known[None, :], other=0.0)
    x = tl.dot(old + new, w, input_precision=PRECISION)
    x = 1 - 2 / (tl.exp(2 * x) + 1)
    x = x * tl.load(scale + n, mask=known, other=0.0)[None, :] + tl.load(offset + n, mask=known, other=0.0)[None, :]
    tl.store(out + m[:, None] * WIDTH + n[None, :], x.to(out.dtype.element_ty), mask=there[:, None] & known[None, :])


@triton.jit
def carry(carried, samples, rows, CARRY: tl.constexpr, SAMPLES: tl.constexpr, BLOCK: tl.constexpr):
    """One program a stream: its last samples."""
    stream, at = tl.program_id(0), tl.arange(0, BLOCK)
    mine = carried + tl.load(rows + stream) * CARRY
    real, source = at < CARRY, at + SAMPLES
    old = tl.load(mine + source, mask=real & (source < CARRY), other=0.0)
    new = tl.load(samples + stream * SAMPLES + source - CARRY, mask=real & (source >= CARRY), other=0.0)
    tl.debug_barrier()  # a chunk may be shorter than what is carried: everything is read before anything is written
    tl.store(mine + at, old + new, mask=real)


@triton.jit
def product(
    a, w, bias, out, m, EACH: tl.constexpr, BATCH: tl.constexpr, STRIDE: tl.constexpr, N: tl.constexpr,
    K: tl.constexpr, BIAS: tl.constexpr, GELU: tl.constexpr, LOG_SOFTMAX: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """`a @ w` and what follows; row r of `a` begins at (r // EACH) * BATCH + (r % EACH) * STRIDE."""
    pid = tl.program_id(0)
    down, across = tl.cdiv(m, BM), tl.cdiv(N, BN)
    group = pid // (GROUP * across)
    height = tl.minimum(down - group * GROUP, GROUP)
    inside = pid % (GROUP * across)
    rows = (group * GROUP + inside % height) * BM + tl.arange(0, BM)
    columns = (inside // height) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    there, known = rows < m, columns < N
    start = (rows // EACH) * BATCH + (rows % EACH) * STRIDE
    left = a + start[:, None] + k[None, :]
    right = w + k[:, None] * N + columns[None, :]
    total = tl.zeros((BM, BN), tl.float32)
    for done in range(0, K, BK):
        if K % BK == 0:
            x = tl.load(left, mask=there[:, None], other=0.0)
            y = tl.load(right, mask=known[None, :], other=0.0)
        else:
            x = tl.load(left, mask=there[:, None] & (k < K - done)[None, :], other=0.0)
            y = tl.load(right, mask=known[None, :] & (k < K - done)[:, None], other=0.0)
        total = tl.dot(x, y, total, input_precision=PRECISION)
        left += BK
        right += BK * N
    if BIAS:
        total += tl.load(bias + columns, mask=known, other=0.0)[None, :]
    if GELU:
        total = 0.5 * total * (1 + tl.math.erf(total * 0.7071067811865476))
    if LOG_SOFTMAX:
        total = tl.where(known[None, :], total, float("-inf"))
        total = total - tl.max(total, 1)[:, None]
        total = total - tl.log(tl.sum(tl.exp(total), 1))[:, None]
    at = rows.to(tl.int64)[:, None] * N + columns[None, :]
    tl.store(out + at, total.to(out.dtype.element_ty), mask=there[:, None] & known[None, :])


@triton.jit
def norm(
    x, more, bias, gain, out, m, epsilon, ADD: tl.constexpr, BIAS: tl.constexpr, WIDTH: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """`x + more + bias` in place, and its LayerNorm."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    known = column < WIDTH
    real = (row < m)[:, None] & known[None, :]
    at = row[:, None] * WIDTH + column[None, :]
    value = tl.load(x + at, mask=real, other=0.0)
    if ADD:
        value += tl.load(more + at, mask=real, other=0.0).to(tl.float32)
        if BIAS:
            value += tl.load(bias + column, mask=known, other=0.0)[None, :]
        tl.store(x + at, value, mask=real)
    apart = tl.where(real, value - (tl.sum(value, 1) / WIDTH)[:, None], 0.0)
    spread = tl.sum(apart * apart, 1) / WIDTH
    made = apart * (1 / tl.sqrt(spread + epsilon))[:, None] * tl.load(gain + column, mask=known, other=0.0)[None, :]
    tl.store(out + at, made.to(out.dtype.element_ty), mask=real)


@triton.jit
def _turn(x, twin, cos, sin):
    """Each pair of a head's dimensions by its angle; `twin` has the pairs' numbers changed over."""
    return x.to(tl.float32) * cos + twin.to(tl.float32) * sin


@triton.jit
def attend(
    qkv, ring, rows, position, cos, sin, out, row_stride, scale,
    FRAMES: tl.constexpr, LEFT: tl.constexpr, PLACES: tl.constexpr, HEADS: tl.constexpr, WIDTH: tl.constexpr,
    PAIRS: tl.constexpr, BF: tl.constexpr, BL: tl.constexpr, BW: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One program a stream and head: reads the ring's frames before the chunk once, writes the chunk's."""
    stream, head = tl.program_id(0), tl.program_id(1)
    row = tl.load(rows + stream).to(tl.int64)
    first = tl.load(position + stream)
    kept = ring + row * row_stride + head * PLACES * WIDTH
    step, width, past = tl.arange(0, BF), tl.arange(0, BW), tl.arange(0, BL)
    known = width < WIDTH

    when = first - LEFT + past
    sight = (past < LEFT) & (when >= 0)
    start = (first % PLACES).to(tl.int32)
    place = (start + (PLACES - LEFT) + past) % PLACES
    old = place[:, None] * WIDTH + width[None, :]
    seen = sight[:, None] & known[None, :]
    old_keys = tl.load(kept + old, mask=seen, other=0.0, eviction_policy="evict_first")
    old_values = tl.load(kept + HEADS * PLACES * WIDTH + old, mask=seen, other=0.0, eviction_policy="evict_first")

    real = (step < FRAMES)[:, None] & known[None, :]
    at = (stream * FRAMES + step)[:, None] * (3 * HEADS * WIDTH) + head * WIDTH
    mine, twin = at + width[None, :], at + (width ^ 1)[None, :]
    angle = (stream * FRAMES + step)[:, None] * PAIRS + (width // 2)[None, :]
    turned = (step < FRAMES)[:, None] & (width < 2 * PAIRS)[None, :]
    c = tl.load(cos + angle, mask=turned, other=1.0)
    s = tl.load(sin + angle, mask=turned, other=0.0) * (2 * (width % 2) - 1).to(tl.float32)[None, :]
    kind = qkv.dtype.element_ty
    query = _turn(tl.load(qkv + mine, mask=real, other=0.0), tl.load(qkv + twin, mask=real, other=0.0), c, s)
    query = query.to(kind)
    at_key = qkv + HEADS * WIDTH
    key = _turn(tl.load(at_key + mine, mask=real, other=0.0), tl.load(at_key + twin, mask=real, other=0.0), c, s)
    key = key.to(kind)
    value = tl.load(qkv + 2 * HEADS * WIDTH + mine, mask=real, other=0.0)
    new = ((start + step) % PLACES)[:, None] * WIDTH + width[None, :]
    tl.store(kept + new, key, mask=real)
    tl.store(kept + HEADS * PLACES * WIDTH + new, value, mask=real)

    before = tl.dot(query, tl.trans(old_keys), input_precision=PRECISION) * scale
    within = tl.dot(query, tl.trans(key), input_precision=PRECISION) * scale
    before = tl.where(sight[None, :], before, float("-inf"))
    within = tl.where((step < FRAMES)[None, :], within, float("-inf"))
    most = tl.maximum(tl.max(before, 1), tl.max(within, 1))[:, None]
    before, within = tl.exp(before - most), tl.exp(within - most)
    total = (tl.sum(before, 1) + tl.sum(within, 1))[:, None]
    mixed = tl.dot(before.to(kind), old_values, input_precision=PRECISION)
    mixed = tl.dot(within.to(kind), value, mixed, input_precision=PRECISION)
    to = (stream * FRAMES + step)[:, None] * (HEADS * WIDTH) + head * WIDTH + width[None, :]
    tl.store(out + to, (mixed / total).to(kind), mask=real)

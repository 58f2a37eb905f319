"""`acoustic/simd@fp32` and `@int8`: Moonshine in our own compiled loops (`simd_loops`), without ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels import cpu
from kernels.buffers import aligned_block
from kernels.dense import ROUNDINGS, Rounding, grouped
from pipelines.acoustic import simd_loops
from pipelines.acoustic.moonshine import MoonshineAed
from pipelines.contracts import SAMPLE_RATE, Encoded, EncoderDecoderModel, Float32
from pipelines.errors import AmiraError
from pipelines.models.moonshine import (
    FRAME_SAMPLES,
    HEAD_WIDTH,
    HEADS,
    LAYERS,
    ROTARY_BASE,
    ROTARY_WIDTH,
    VOCABULARY,
    WIDTH,
)
from pipelines.registry import Context, Unavailable, Variant
from pipelines.vectors import widest, without_vectors

MAX_STEP_TOKENS = 16
"""Tokens that one step takes at most; the logits buffer is sized for it."""
MAX_POSITIONS = 4096
"""Rows of the rotary table: 98 s of audio."""
PANELS = "panels.npz"
CROSS_MATRICES = [(WIDTH, 2 * WIDTH)] * LAYERS
STEP_MATRICES = [*[(WIDTH, 14 * WIDTH), (4 * WIDTH, WIDTH)] * LAYERS, (WIDTH, VOCABULARY)]
"""Inputs and outputs of the matrices of each group of weights; those with the same inputs side by side are one."""
Arrays = tuple[npt.NDArray[Any], ...]


@dataclass(slots=True)
class _State:
    """A clip's keys and values, and those of the tokens so far."""

    cross: tuple[Float32, Float32]
    cache: tuple[Float32, Float32]
    scratch: Float32
    logits: Float32
    rounding: Arrays
    """Codes, steps and sums of a step's rows."""
    frames: int
    capacity: int
    max_tokens: int
    length: int = 0


class SimdAed(MoonshineAed):
    """Moonshine on one thread, every product from the shipped int8 weights with FP32 arithmetic.

    With `rounded`, the decoder's steps multiply integers: activations are rounded row by row, to 8 bits where the CPU
    has VNNI, else to 13 (`kernels.dense.ROUNDINGS`).
    """

    max_step_tokens = MAX_STEP_TOKENS

    def __init__(self, context: Context, lanes: int, rounded: bool = False) -> None:
        folder = context.folder
        super().__init__(context.buffers, folder / "tokenizer.bin")
        arrays = _load(folder / PANELS)
        self._conv1 = arrays["encoder.conv1"]
        self._encoder_weights, self._cross_weights, self._step_weights = (
            tuple(arrays[f"{group}.{part}"] for part in ("weights", "scale", "zero", "bias", "gains"))
            for group in ("encoder", "cross", "step")
        )
        self._rounded = rounded
        self._cross_offsets = self._step_offsets = np.zeros(0, np.int32)
        self._encoder = simd_loops.encoder_loop(lanes).call
        if rounded and cpu.missing("avx512-vnni"):
            lanes = 8
        self._rounding = ROUNDINGS[lanes]
        if rounded:
            self._cross_weights, self._cross_offsets = _regrouped(self._cross_weights, CROSS_MATRICES, self._rounding)
            self._step_weights, self._step_offsets = _regrouped(self._step_weights, STEP_MATRICES, self._rounding)
        self._cross = simd_loops.cross_loop(lanes, rounded).call
        self._step = simd_loops.step_loop(lanes, rounded).call
        self._nothing = _aligned(np.zeros(MAX_POSITIONS, np.float32))
        self._angles = _aligned(rotary_table(MAX_POSITIONS))

    def _encode_impl(self, samples: Float32, hidden: Float32) -> None:
        wave = np.ascontiguousarray(samples[0], np.float32)
        first = (wave.size - 127) // 64 + 1
        second = (first - 7) // 3 + 1
        rows = hidden.shape[1]
        if rows + 31 > MAX_POSITIONS:
            raise ValueError(
                f"Moonshine takes up to {(MAX_POSITIONS - 31) * FRAME_SAMPLES // SAMPLE_RATE} s here, "
                f"got {wave.size / SAMPLE_RATE:.1f} s"
            )
        with self._buffers.lease((simd_loops.encoder_scratch(first, second, rows),), np.float32) as scratch:
            flat = hidden.reshape(-1)
            _done(self._encoder(wave, self._conv1, *self._encoder_weights, self._nothing, self._angles, scratch, flat))

    @contextmanager
    def open(self, encoded: Encoded, max_tokens: int) -> Iterator[_State]:
        """See `pipelines.contracts.EncoderDecoderModel.open`."""
        frames = encoded.hidden.shape[1]
        places = LAYERS * HEADS
        capacity = simd_loops.panels_of(max_tokens)
        with ExitStack() as stack:

            def lease(size: int, kind: npt.DTypeLike = np.float32) -> Any:
                return stack.enter_context(self._buffers.lease((size,), kind))

            cross = (lease(places * simd_loops.panels_of(frames) * HEAD_WIDTH), lease(places * frames * 64))
            cache = (lease(places * capacity * HEAD_WIDTH), lease(places * capacity * 64))
            scratch = lease(
                max(
                    simd_loops.step_scratch(min(MAX_STEP_TOKENS, max_tokens), frames, capacity),
                    frames * 2 * WIDTH,
                )
            )
            rows = min(MAX_STEP_TOKENS, max_tokens)
            logits = lease(rows * VOCABULARY)
            most = max(rows, frames)
            codes = lease(max(rows * 4, frames) * WIDTH, self._rounding.dtype)
            rounding: Arrays = (codes, lease(most), lease(most, np.int32))
            if self._rounded:
                cache[1][:] = 0
            hidden = encoded.hidden.reshape(-1)
            _done(self._cross(hidden, *self._cross_weights, scratch, *cross, self._cross_offsets, *rounding))
            yield _State(cross, cache, scratch, logits, rounding, frames, capacity, max_tokens)

    def step(self, state: _State, tokens: Sequence[int]) -> Float32:
        """See `pipelines.contracts.EncoderDecoderModel.step`.

        Raises:
            ValueError: No tokens, more than the state has room for, or one that is not in the vocabulary.
        """
        past, count = state.length, len(tokens)
        if not 1 <= count <= MAX_STEP_TOKENS or past + count > state.max_tokens:
            raise ValueError(
                f"a step takes 1 to {MAX_STEP_TOKENS} tokens and this state holds {state.max_tokens}, "
                f"of which {past} are used; got {count}"
            )
        ids = np.array(tokens, np.int64)
        if not ((ids >= 0) & (ids < VOCABULARY)).all():
            raise ValueError(f"tokens must be in [0, {VOCABULARY}), got {list(tokens)}")
        _done(
            self._step(
                ids, past, *self._step_weights, self._nothing, self._angles, *state.cross, state.frames, *state.cache,
                state.capacity, state.scratch, state.logits, self._step_offsets, *state.rounding,
            )
        )  # fmt: skip
        state.length += count
        return state.logits[: count * VOCABULARY].reshape(count, VOCABULARY)

    def rewind(self, state: _State, length: int) -> None:
        """See `pipelines.contracts.EncoderDecoderModel.rewind`: a step overwrites what lies behind `past`."""
        if not 0 <= length <= state.length:
            raise ValueError(f"cannot go back to {length} tokens: {state.length} were fed")
        state.length = length


def _regrouped(
    group: Arrays, matrices: Sequence[tuple[int, int]], rounding: Rounding
) -> tuple[Arrays, npt.NDArray[np.int32]]:
    """A group of weights (see `pipelines.models.panels`) for products of integers, and its columns' offsets.

    Args:
        group: weights, scale, zero, bias, gains.
        matrices: Inputs and outputs of each of its matrices.
        rounding: How rows are rounded.
    """
    weights, *rest = group
    sizes = [inputs * outputs for inputs, outputs in matrices]
    parts = list(zip(np.split(weights, np.cumsum(sizes)[:-1]), (inputs for inputs, _ in matrices), strict=True))
    offsets = np.concatenate([rounding.offsets(*part) for part in parts])
    return (_aligned(np.concatenate([grouped(*part, rounding.group) for part in parts])), *rest), _aligned(offsets)


def _done(result: int) -> None:
    """A loop says with a negative number that its arrays do not fit together, which is our mistake."""
    if result < 0:
        raise RuntimeError(f"a compiled loop of the simd model refused its arrays ({result}); please report it")


def _aligned(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    copy = aligned_block(values.nbytes).view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy


def rotary_table(positions: int) -> Float32:
    """Cosines and sines of each position, flat, as `kernels.simd_dense.rotate` reads them."""
    frequencies = ROTARY_BASE ** (-np.arange(0, ROTARY_WIDTH, 2, dtype=np.float64) / ROTARY_WIDTH)
    angles = np.arange(positions)[:, None] * frequencies
    table: Float32 = np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32).reshape(-1)
    return table


def _load(path: Path) -> dict[str, npt.NDArray[Any]]:
    if not path.is_file():
        raise AmiraError(f"model file {path} does not exist. Build it: amira models build")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: _aligned(archive[name]) for name in archive.files}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise AmiraError(
            f"cannot read the packed weights {path}: {error}. Build the models again: amira models build --force"
        ) from error


class SimdFp32(Variant):
    """`acoustic/simd@fp32`."""

    id = "acoustic/simd@fp32"
    summary = "own compiled loops, FP32 arithmetic on the shipped int8 weights, no ONNX Runtime; one thread"
    families = ("aed",)

    @classmethod
    def available(cls) -> Unavailable | None:
        """Whether the CPU has vectors for it."""
        return without_vectors("acoustic/ort@fp32")

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[EncoderDecoderModel]:
        yield SimdAed(context, widest())


class SimdInt8(Variant):
    """`acoustic/simd@int8`."""

    id = "acoustic/simd@int8"
    summary = "as simd@fp32, but decoder steps multiply integers: many tokens cost little more than one"
    families = ("aed",)

    @classmethod
    def available(cls) -> Unavailable | None:
        """Whether the CPU has vectors for it."""
        return without_vectors("acoustic/ort@fp32")

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[EncoderDecoderModel]:
        yield SimdAed(context, widest(), rounded=True)

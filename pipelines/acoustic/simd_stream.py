"""`acoustic/simd-stream@fp32` and `@int8`: our streaming models in one compiled loop a step, without ONNX Runtime."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from kernels.buffers import aligned_block
from kernels.dense import PANEL, ROUNDINGS, grouped, packed
from pipelines.acoustic import simd_stream_loop as loops
from pipelines.acoustic.open_ctc import read_vocabulary
from pipelines.acoustic.simd_loops import PAIRS, WIDTH, panels_of
from pipelines.acoustic.waveform_stream import WaveformState, WaveformStreaming
from pipelines.contracts import AcousticModel, CtcVocabulary, Float32
from pipelines.errors import AmiraError
from pipelines.models.model_card import CtcCard, StreamingCard, ctc_card, file_of
from pipelines.models.moonshine import FRAME_SAMPLES, ROTARY_BASE, ROTARY_WIDTH
from pipelines.registry import Context, Unavailable, Variant
from pipelines.vectors import LANES, widest, without_vectors

LIFT = 0.7
"""Where weights are rounded, inputs of the convolutions are multiplied by this power of their largest weight, and their
weights divided by it: small weights of loud inputs are then not lost beside large ones. Of powers from 0 to 1, 0.65 to
0.8 moved the labels of real speech least."""
SLOTS = 128
"""Rings that there is room for at first. Memory that no stream has written to is not there yet."""


class SimdStreamState(WaveformState):
    """A stream's ring, how much it has had, and the samples that the next step hears again."""

    def __init__(self, owner: SimdStreaming, slot: int) -> None:
        super().__init__(owner)
        self._model, self.slot = owner, slot
        self.frames = 0
        self.carry: Float32 = np.zeros(loops.CARRY, np.float32)

    def close(self) -> None:
        """Give the ring back."""
        super().close()
        if self.slot >= 0:
            self._model.take_back(self.slot)
            self.slot = -1


class Weights:
    """The numbers of a step graph (`pipelines.models.stream_graph`) as the loop reads them.

    Args:
        model: The graph.
        rounded: Whether to round every column of the weights to 8 bits.

    Attributes:
        conv1: float32 panels.
        weights: Panels: the bits of float16 as uint16 where that says every number exactly, as it does for weights that
            were trained and stored so, which halves what a step of one stream waits for; else float32. Where they are
            rounded, int8, grouped (`kernels.dense`).
        scale: What a step of every output's weights is worth; ones where they are not rounded.
        bias: For every output of `weights`.
        gains: Of the second and third convolution's inputs, then of the norms, in the order of their use.
        ranks: Of the second and third convolution, where each is two products; else 0.
        layers: How many.
        left: Frames before its step that a frame sees.
        head: Outputs of the last product, up to a whole panel.
    """

    def __init__(self, model: Any, *, rounded: bool) -> None:
        from onnx import numpy_helper

        found = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
        shapes = {each.name: [axis.dim_value for axis in each.type.tensor_type.shape.dim] for each in model.graph.input}
        _, self.layers, self.left, _ = shapes["state_key"]
        scale, shift = found["groupnorm.gain"].astype(np.float64), found["groupnorm.offset"].astype(np.float64)
        (conv2, *up2), (conv3, *up3) = _convolution(found, "conv2"), _convolution(found, "conv3")
        self.ranks = len(up2[0][0]) if up2 else 0, len(up3[0][0]) if up3 else 0
        taps2 = conv2[0].astype(np.float64).reshape(7, WIDTH, -1)
        shifted = taps2.reshape(7 * WIDTH, -1), conv2[1] + np.einsum("c,kco->o", shift, taps2)
        products = [shifted, *up2, conv3, *up3]
        gains = [scale, np.ones(2 * WIDTH)]
        if rounded:
            products[0] = (scale[:, None] * taps2).reshape(7 * WIDTH, -1), shifted[1]
            gains = []
            for index, taps in ((0, 7), (1 + len(up2), 3)):
                matrix, bias = products[index]
                size = np.abs(matrix).reshape(taps, len(matrix) // taps, -1).max(axis=(0, 2))
                lift = np.where(size > 0, size, 1.0) ** LIFT
                gains.append(lift)
                products[index] = matrix / np.tile(lift, taps)[:, None], bias
        for layer in range(self.layers):
            name = f"layers.{layer}"
            products += [
                (found[f"{name}/self_attn.qkv"], None),
                (found[f"{name}.self_attn.dense.MatMul"], None),
                (found[f"{name}.mlp.fc1.MatMul"], found[f"{name}/mlp/fc1.bias"]),
                (found[f"{name}.mlp.fc2.MatMul"], found[f"{name}/mlp/fc2.bias"]),
            ]
            gains += [found[f"{name}/{norm}.gain"] for norm in ("input_layernorm", "post_attention_layernorm")]
        gains.append(found["layer_norm.gain"])
        labels = found["head"].shape[1]
        self.head = panels_of(labels)
        room = ((0, 0), (0, self.head - labels))
        products.append((np.pad(found["head"], room), np.pad(found["head.bias"], room[1])))
        kernel = found["conv1"].reshape(WIDTH, -1).T
        self.conv1 = _aligned(packed(kernel))
        panels, scales = zip(*(_rounded(matrix) if rounded else _whole(matrix) for matrix, _ in products), strict=True)
        self.weights = _aligned(np.concatenate(panels), np.int8) if rounded else stored(np.concatenate(panels))
        self.scale = _aligned(np.concatenate([*scales, np.zeros(PANEL)]))
        biases = [np.zeros(matrix.shape[1]) if bias is None else bias for matrix, bias in products]
        self.bias = _aligned(np.concatenate([*biases, np.zeros(PANEL)]))
        self.gains = _aligned(np.concatenate(gains))


class SimdStreaming(WaveformStreaming[SimdStreamState]):
    """A streaming model in compiled loops, on the thread that calls it and, for several streams, on further ones.

    A stream's step is one thread's: `threads` of them take the streams of a batch, each its share.
    """

    def __init__(
        self,
        card: CtcCard,
        streaming: StreamingCard,
        vocabulary: CtcVocabulary,
        weights: Weights,
        chunk_frames: int,
        threads: int = 1,
    ) -> None:
        super().__init__(card, streaming, vocabulary, chunk_frames)
        self._weights = weights
        self._ring = weights.left + chunk_frames
        self._sizes = loops.ring_sizes(weights.layers, self._ring)
        self._keys, self._values = (np.zeros(SLOTS * size, np.float32) for size in self._sizes)
        self._free = list(range(SLOTS - 1, -1, -1))
        labels = len(vocabulary)
        self._workers = [_Worker(weights, self._ring, chunk_frames, labels) for _ in range(threads)]
        self._pool = ThreadPoolExecutor(threads - 1, "stream-step") if threads > 1 else None

    def open(self) -> SimdStreamState:
        """The state of a new stream."""
        if not self._free:
            self._grow()
        return SimdStreamState(self, self._free.pop())

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights that a step reads."""
        return int(self._weights.conv1.nbytes + self._weights.weights.nbytes)

    def take_back(self, slot: int) -> None:
        """A ring is free again; the one used last is the next to be used."""
        self._free.append(slot)

    def close(self) -> None:
        """Drop the rings; streams that are still open are lost."""
        if self._pool is not None:
            self._pool.shutdown()
        self._keys = self._values = np.zeros(0, np.float32)
        self._workers, self._free = [], []

    def _grow(self) -> None:
        have = len(self._keys) // self._sizes[0]
        self._keys, self._values = (
            np.concatenate([array, np.zeros(max(have, 1) * size, np.float32)])
            for array, size in zip((self._keys, self._values), self._sizes, strict=True)
        )
        self._free = list(range(2 * have - 1, have - 1, -1))

    def _step(self, states: Sequence[SimdStreamState], samples: Float32, length: int) -> Float32:
        keys, values = self._keys, self._values
        if self._pool is None or len(states) == 1:
            worker = self._workers[0]
            worker.prepare(states, samples, length)
            worker.run(keys, values)
            return worker.finish(states)
        count = min(len(self._workers), len(states))
        cuts = [len(states) * k // count for k in range(count + 1)]
        shares = [slice(*cut) for cut in itertools.pairwise(cuts)]
        workers = self._workers[:count]
        for worker, share in zip(workers, shares, strict=True):
            worker.prepare(states[share], samples[share], length)
        others = [self._pool.submit(worker.run, keys, values) for worker in workers[1:]]
        try:
            workers[0].run(keys, values)
        finally:
            wait(others)
        for other in others:
            other.result()
        return np.concatenate([worker.finish(states[share]) for worker, share in zip(workers, shares, strict=True)])


class _Worker:
    """What one thread needs for the steps of its share of the streams; of a step `run` alone runs on it."""

    def __init__(self, weights: Weights, ring: int, chunk_frames: int, labels: int) -> None:
        self._weights, self._ring, self._labels = weights, ring, labels
        rounded = weights.weights.dtype == np.int8
        lanes = LANES["avx2"] if rounded else widest()
        self._loop = loops.stream_loop(lanes, weights.weights.dtype.name).call
        codes, rows = loops.stream_codes(chunk_frames) if rounded else (0, 0)
        self._codes = _blank(codes, ROUNDINGS[lanes].dtype)
        self._steps, self._sums = np.zeros(rows, np.float32), np.zeros(rows, np.int32)
        names = ("heard", "turned", "scratch", "logits", "exponents", "sums")
        self._arrays: dict[str, npt.NDArray[Any]] = {name: np.zeros(0, np.float32) for name in names}
        self._arrays["angles"] = np.zeros(0)
        self._rooms: dict[tuple[int, int], _Room] = {}
        self._room = self._made_room(1, chunk_frames)
        self._nothing = np.zeros(4 * WIDTH, np.float32)
        self._whole = np.zeros(len(weights.bias), np.int32)
        self._frequencies = ROTARY_BASE ** (-np.arange(0, ROTARY_WIDTH, 2, dtype=np.float64) / ROTARY_WIDTH)

    def prepare(self, states: Sequence[SimdStreamState], samples: Float32, length: int) -> None:
        """Lay out what the step of these streams reads."""
        streams, frames = len(states), -(-length // FRAME_SAMPLES)
        self._room = room = self._rooms.get((streams, frames)) or self._made_room(streams, frames)
        heard, slots, starts = room.heard, room.slots, room.starts
        for row, state in enumerate(states):
            heard[row, : loops.CARRY] = state.carry
            slots[row], starts[row] = state.slot, state.frames
        heard[:, loops.CARRY : loops.CARRY + length] = samples[:, :length]
        heard[:, loops.CARRY + length :] = 0
        np.add(starts[:, None, None], room.steps, out=room.angles)
        np.multiply(room.angles, self._frequencies, out=room.angles)
        np.cos(room.angles, out=room.turned[..., :PAIRS])
        np.sin(room.angles, out=room.turned[..., PAIRS:])

    def run(self, keys: Float32, values: Float32) -> None:
        """Run the loop, without the GIL, on the rings of these streams."""
        weights, room = self._weights, self._room
        done = self._loop(
            room.flat_heard, len(room.slots), weights.conv1, weights.weights, weights.scale, weights.bias,
            weights.gains, *weights.ranks, weights.layers, weights.head, room.slots, room.starts, keys, values,
            self._ring, weights.left, room.flat_turned, self._nothing, self._whole, room.scratch, room.logits,
            self._codes, self._steps, self._sums,
        )  # fmt: skip
        if done < 0:
            raise RuntimeError(
                f"the compiled loop of the streaming model refused its arrays ({done}); please report it"
            )

    def finish(self, states: Sequence[SimdStreamState]) -> Float32:
        """Move the states on; the log-probabilities, overwritten by the next step."""
        room = self._room
        for row, state in enumerate(states):
            state.carry[:] = room.heard[row, -loops.CARRY :]
            state.frames += len(room.steps)
        rows, sums = room.rows, room.sums
        np.maximum.reduce(rows, axis=-1, keepdims=True, out=sums)
        np.subtract(rows, sums, out=rows)
        np.exp(rows, out=room.exponents)
        np.add.reduce(room.exponents, axis=-1, keepdims=True, out=sums)
        np.log(sums, out=sums)
        np.subtract(rows, sums, out=room.exponents)  # without gaps, as decoders read it
        return room.exponents

    def _made_room(self, streams: int, frames: int) -> _Room:
        """Views of the arrays for steps of this size; they are made anew where such a step is the largest so far."""
        weights, labels = self._weights, self._labels
        sizes = {
            "heard": streams * (loops.CARRY + frames * FRAME_SAMPLES),
            "angles": streams * frames * PAIRS,
            "turned": streams * frames * 2 * PAIRS,
            "scratch": loops.stream_scratch(streams, frames, self._ring, weights.ranks),
            "logits": streams * frames * weights.head,
            "exponents": streams * frames * labels,
            "sums": streams * frames,
        }
        have = self._arrays
        if any(size > have[name].size for name, size in sizes.items()):
            self._arrays = {name: _blank(max(size, have[name].size), have[name].dtype) for name, size in sizes.items()}
            self._rooms.clear()
        flat = {name: self._arrays[name][:size] for name, size in sizes.items()}
        room = _Room(
            heard=flat["heard"].reshape(streams, -1),
            flat_heard=flat["heard"],
            slots=np.empty(streams, np.int64),
            starts=np.empty(streams, np.int64),
            steps=np.arange(frames, dtype=np.float64)[:, None],
            angles=flat["angles"].reshape(streams, frames, PAIRS),
            turned=flat["turned"].reshape(streams, frames, 2 * PAIRS),
            flat_turned=flat["turned"],
            scratch=flat["scratch"],
            logits=flat["logits"],
            rows=flat["logits"].reshape(streams, frames, weights.head)[..., :labels],
            exponents=flat["exponents"].reshape(streams, frames, labels),
            sums=flat["sums"].reshape(streams, frames, 1),
        )
        self._rooms[streams, frames] = room
        return room


@dataclass(slots=True)
class _Room:
    """The arrays of a step of so many streams and frames; see `simd_stream_loop.stream_loop`.

    Attributes:
        steps, angles: float64: 0 to the frames, and what the keys of every frame are turned by.
        rows: What of `logits` belongs to labels.
        exponents, sums: For the softmax; at the end `exponents` has the log-probabilities.
    """

    heard: Float32
    flat_heard: Float32
    slots: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    steps: npt.NDArray[np.float64]
    angles: npt.NDArray[np.float64]
    turned: Float32
    flat_turned: Float32
    scratch: Float32
    logits: Float32
    rows: Float32
    exponents: Float32
    sums: Float32


def _blank(size: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    return aligned_block(np.dtype(dtype).itemsize * size).view(dtype)


Product = tuple[npt.NDArray[Any], npt.NDArray[Any]]
"""A matrix (inputs, outputs) and its bias."""


def _convolution(found: dict[str, npt.NDArray[Any]], name: str) -> list[Product]:
    """A convolution as one product, or as two where its matrix is a product of two, with whole panels between them."""
    bias = found[f"{name}.bias"]
    if f"{name}.down" not in found:
        return [(found[name], bias)]
    down, up = found[f"{name}.down"], found[f"{name}.up"]
    room = panels_of(len(up)) - len(up)
    return [(np.pad(down, ((0, 0), (0, room))), np.zeros(len(up) + room)), (np.pad(up, ((0, room), (0, 0))), bias)]


Panels = tuple[npt.NDArray[Any], npt.NDArray[np.float64]]
"""Of one matrix, and the scale of each of its columns."""


def _whole(matrix: npt.NDArray[Any]) -> Panels:
    return packed(matrix), np.ones(matrix.shape[1])


def stored(panels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The bits of float16 as uint16 where they say every number exactly; else float32."""
    with np.errstate(over="ignore"):
        halves = panels.astype(np.float16)
    exact = np.array_equal(halves.astype(panels.dtype), panels)
    return _aligned(halves.view(np.uint16), np.uint16) if exact else _aligned(panels)


def _rounded(matrix: npt.NDArray[Any]) -> Panels:
    largest = np.abs(matrix).max(axis=0).astype(np.float64)
    scale = np.where(largest > 0, largest / 127, 1.0)
    panels = packed(np.rint(matrix / scale).astype(np.int8))
    return grouped(panels, len(matrix), ROUNDINGS[LANES["avx2"]].group), scale


def _aligned(values: npt.NDArray[Any], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    copy = _blank(values.size, dtype).reshape(values.shape)
    copy[...] = values
    return copy


class SimdStreamOptions(BaseModel):
    """Options of `acoustic/simd-stream@fp32` and `@int8`.

    Attributes:
        chunk_frames: Frames of a chunk; `None` for what the model's card says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    chunk_frames: int | None = Field(default=None, ge=1, le=128)


class SimdStreamFp32(Variant):
    """`acoustic/simd-stream@fp32`."""

    id = "acoustic/simd-stream@fp32"
    summary = "stream-ctc in own compiled loops, FP32: states stay in place, all streams in one batch"
    families = ("ctc",)
    options = SimdStreamOptions
    rounded = False

    @classmethod
    def available(cls) -> Unavailable | None:
        """Whether the CPU has vectors for it."""
        return without_vectors("acoustic/ort@fp32")

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: SimdStreamOptions) -> Iterator[AcousticModel]:
        import onnx

        card = ctc_card(context.folder)
        if card.streaming is None or card.features is not None:
            raise AmiraError(
                f"'{cls.id}' runs streaming models of our own architecture, which '{card.name}' is not. "
                "Use acoustic/ort@fp32"
            )
        path = file_of(card, context.folder, "fp32")
        if not path.is_file():
            raise AmiraError(f"model file {path} does not exist. Build it: amira models build")
        try:
            weights = Weights(onnx.load(path), rounded=cls.rounded)
        except (KeyError, ValueError) as error:
            raise AmiraError(
                f"'{cls.id}' runs streaming models of our own architecture, and {path} has another ({error}). "
                "Use acoustic/ort@fp32"
            ) from error
        frames = options.chunk_frames or card.streaming.chunk_frames
        vocabulary = read_vocabulary(context.folder, card)
        model = SimdStreaming(card, card.streaming, vocabulary, weights, frames, context.threads)
        try:
            yield model
        finally:
            model.close()


class SimdStreamInt8(SimdStreamFp32):
    """`acoustic/simd-stream@int8`: weights of 8 bits, one scale a column; activations of 13 bits, one scale a row.

    Sums are exact, and what a stream hears does not depend on the others of its batch. The stem's first convolution,
    attention and everything between the products stay in FP32.
    """

    id = "acoustic/simd-stream@int8"
    summary = "as simd-stream@fp32 with weights of 8 bits, rounded when they are loaded, and integers in the products"
    rounded = True

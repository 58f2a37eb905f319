"""Small streaming CTC models with just the interfaces that icefall, WeNet and NeMo export, and what they compute.

Each is a convolution over a window of features and two layers of the same kind: a causal convolution, and the mean of
what a frame may look at. Their caches have the names, orders of axes, types and sizes of the toolkits' export scripts
(icefall `zipformer/export-onnx-streaming-ctc.py`, WeNet `bin/export_onnx_cpu.py`, NeMo's cache-aware encoders).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto
from scipy.special import log_softmax

from pipelines.models.graph import GraphWriter, tensor
from tests.own_models import MELS, PIECES, write_files

WIDTH, LABELS, LAYERS, CONV = 8, len(PIECES), 2, 4
HEADS = 2
LARGEST = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Shape:
    """Of a model: frames of a chunk, feature frames for each, of a window and of it before the chunk; left context."""

    chunk: int
    subsampling: int
    window: int
    history: int
    left: int
    means: tuple[str, ...]
    convolutions: int = 1
    embed: bool = False

    @property
    def kernel(self) -> int:
        """Feature frames that one frame of the first convolution hears."""
        return self.window - (self.chunk - 1) * self.subsampling


ICEFALL = Shape(8, 4, 45, 0, 16, ("key", "nonlin_attn", "val1", "val2"), convolutions=2, embed=True)
WENET = Shape(4, 4, 19, 0, 8, ("att",))
WENET_GROWING = Shape(4, 4, 19, 0, 1 << 20, ("att",))
NEMO = Shape(3, 8, 33, 9, 6, ("channel",))


class Weights:
    """Random, the same for the same shape."""

    def __init__(self, shape: Shape) -> None:
        rng = np.random.default_rng(7)

        def random(*size: int) -> np.ndarray:
            return rng.standard_normal(size).astype(np.float32) / np.float32(np.sqrt(np.prod(size[1:])))

        self.stem = np.float32(0.1) * random(WIDTH, MELS, shape.kernel)
        self.means = [[random(WIDTH, WIDTH) for _ in shape.means] for _ in range(LAYERS)]
        self.convolutions = [[random(WIDTH, 1, CONV) for _ in range(shape.convolutions)] for _ in range(LAYERS)]
        self.head = 4 * random(WIDTH, LABELS)


def offline(shape: Shape, features: np.ndarray) -> np.ndarray:
    """Log-probabilities of a whole clip of features (frames, mels), under the mask that streaming has."""
    own = Weights(shape)
    features = np.concatenate([np.zeros((shape.history, MELS)), features.astype(np.float64)])
    windows = np.lib.stride_tricks.sliding_window_view(features, shape.kernel, axis=0)[:: shape.subsampling]
    x = np.einsum("tmk,dmk->td", windows, own.stem)
    x = x[: len(x) // shape.chunk * shape.chunk]
    if shape.embed:
        x = x + np.concatenate([[0.0], _chunk_ends(x, shape)[:-1]]).repeat(shape.chunk)[:, None]
    for layer in range(LAYERS):
        mixed = sum(_means(x @ matrix, shape) for matrix in own.means[layer])
        for kernel in own.convolutions[layer]:
            padded = np.concatenate([np.zeros((CONV - 1, WIDTH)), x])
            x = np.einsum("tdk,dk->td", np.lib.stride_tricks.sliding_window_view(padded, CONV, axis=0), kernel[:, 0])
        x = np.tanh(x + mixed)
    return log_softmax(x @ own.head, axis=1)


def _chunk_ends(x: np.ndarray, shape: Shape) -> np.ndarray:
    return x.reshape(-1, shape.chunk, WIDTH)[:, -3:].mean(axis=(1, 2))


def _means(x: np.ndarray, shape: Shape) -> np.ndarray:
    starts = np.arange(len(x)) // shape.chunk * shape.chunk
    return np.stack([x[max(start - shape.left, 0) : start + shape.chunk].mean(axis=0) for start in starts])


class _Toy:
    """What the three graphs share. Tensors inside are (streams, frames, width)."""

    def __init__(self, shape: Shape) -> None:
        self.shape, self.own, self.graph = shape, Weights(shape), GraphWriter()

    def ints(self, *values: int) -> str:
        return self.graph.constant("_".join(map(str, ("i", *values))), np.array(values, np.int64))

    def floats(self, name: str, value: np.ndarray) -> str:
        return self.graph.constant(name, value)

    def stem(self, x: str, *, channels_first: bool) -> str:
        x = x if channels_first else self.graph.node("Transpose", x, perm=[0, 2, 1])
        made = self.graph.node("Conv", x, self.floats("stem", self.own.stem), strides=[self.shape.subsampling])
        return self.graph.node("Transpose", made, perm=[0, 2, 1])

    def last(self, x: str, count: int | str, axis: int, output: str | None = None) -> str:
        start = self.ints(-count) if isinstance(count, int) else count
        return self.graph.node("Slice", x, start, self.ints(LARGEST), self.ints(axis), output=output)

    def mean(self, x: str, real: str) -> str:
        """Over the frames that `real` (streams, frames) marks with 1."""
        weights = self.graph.node("Unsqueeze", real, self.ints(2))
        total = self.graph.node("ReduceSum", self.graph.node("Mul", x, weights), self.ints(1))
        return self.graph.node("Div", total, self.graph.node("ReduceSum", weights, self.ints(1)))

    def project(self, x: str, layer: int, which: int) -> str:
        return self.graph.node("MatMul", x, self.floats(f"mean_{layer}_{which}", self.own.means[layer][which]))

    def convolve(self, cache: str, x: str, layer: int, which: int) -> tuple[str, str]:
        """The causal convolution behind a cache (streams, width, CONV - 1), and the next cache."""
        whole = self.graph.node("Concat", cache, self.graph.node("Transpose", x, perm=[0, 2, 1]), axis=2)
        kernel = self.floats(f"conv_{layer}_{which}", self.own.convolutions[layer][which])
        made = self.graph.node("Conv", whole, kernel, group=WIDTH)
        return self.graph.node("Transpose", made, perm=[0, 2, 1]), self.last(whole, CONV - 1, 2)

    def bent(self, x: str, mixed: str, output: str | None = None) -> str:
        return self.graph.node("Tanh", self.graph.node("Add", x, mixed), output=output)

    def head(self, x: str, output: str) -> None:
        logits = self.graph.node("MatMul", x, self.floats("head", self.own.head))
        self.graph.node("LogSoftmax", logits, output=output, axis=-1)

    def real(self, frames: str) -> str:
        """float (streams, left + chunk): 1 for real frames of cache and chunk, if the cache has `frames`."""
        places = self.floats("places", np.arange(self.shape.left + self.shape.chunk)[None])
        unreal = self.graph.node("Sub", self.ints(self.shape.left), frames)
        found = self.graph.node("GreaterOrEqual", places, self.graph.node("Unsqueeze", unreal, self.ints(1)))
        return self.graph.node("Cast", found, to=TensorProto.FLOAT)


def icefall_model() -> onnx.ModelProto:
    """`x` and many caches to `log_probs` and as many."""
    shape, toy = ICEFALL, _Toy(ICEFALL)
    graph, left, chunk = toy.graph, shape.left, shape.chunk
    frames_first: dict[str, list[int | str]] = {
        "key": [left, "N", WIDTH],
        "nonlin_attn": [1, "N", left, WIDTH],
        "val1": [left, "N", WIDTH],
        "val2": [left, "N", WIDTH],
        "conv1": ["N", WIDTH, CONV - 1],
        "conv2": ["N", WIDTH, CONV - 1],
    }
    sizes = {f"cached_{name}_{i}": size for i in range(LAYERS) for name, size in frames_first.items()}
    sizes |= {"embed_states": ["N", 128, 3, 19], "processed_lens": ["N"]}
    x = toy.stem("x", channels_first=False)
    ends = graph.node("ReduceMean", toy.last(x, 3, 1), toy.ints(1, 2), keepdims=0)
    wide = graph.node("Unsqueeze", ends, toy.ints(1, 2, 3))
    graph.node("Mul", wide, toy.floats("wide", np.ones((1, 128, 3, 19), np.float32)), output="new_embed_states")
    before = graph.node("ReduceMean", "embed_states", toy.ints(1, 2, 3), keepdims=0)
    x = graph.node("Add", x, graph.node("Unsqueeze", before, toy.ints(1, 2)))
    real = toy.real(graph.node("Min", "processed_lens", toy.ints(left)))
    for layer in range(LAYERS):
        mixed = ""
        for which, name in enumerate(shape.means):
            cache, projected = f"cached_{name}_{layer}", toy.project(x, layer, which)
            if name == "nonlin_attn":
                whole = graph.node("Concat", graph.node("Squeeze", cache, toy.ints(0)), projected, axis=1)
                graph.node("Unsqueeze", toy.last(whole, left, 1), toy.ints(0), output=f"new_{cache}")
            else:
                whole = graph.node("Concat", graph.node("Transpose", cache, perm=[1, 0, 2]), projected, axis=1)
                graph.node("Transpose", toy.last(whole, left, 1), output=f"new_{cache}", perm=[1, 0, 2])
            found = toy.mean(whole, real)
            mixed = graph.node("Add", mixed, found) if mixed else found
        for which in range(shape.convolutions):
            cache = f"cached_conv{which + 1}_{layer}"
            x, after = toy.convolve(cache, x, layer, which)
            graph.node("Identity", after, output=f"new_{cache}")
        x = toy.bent(x, mixed)
    toy.head(x, "log_probs")
    graph.node("Add", "processed_lens", toy.ints(chunk), output="new_processed_lens")

    def kind(name: str) -> int:
        return TensorProto.INT64 if name == "processed_lens" else TensorProto.FLOAT

    inputs = [tensor("x", ["N", shape.window, MELS]), *(tensor(name, size, kind(name)) for name, size in sizes.items())]
    outputs = [tensor("log_probs", ["N", chunk, LABELS])]
    outputs += [tensor(f"new_{name}", size, kind(name)) for name, size in sizes.items()]
    model = graph.model("zipformer2", inputs, outputs)
    facts = {"model_type": "zipformer2", "decode_chunk_len": chunk * shape.subsampling, "T": shape.window}
    onnx.helper.set_model_props(model, {key: str(value) for key, value in facts.items()})
    return model


def wenet_models(shape: Shape) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """`encoder.onnx` and `ctc.onnx`; with an endless left context, the file has no mask and no cache size."""
    toy = _Toy(shape)
    graph, key = toy.graph, WIDTH // HEADS
    growing = shape.left > 1_000
    x = toy.stem("chunk", channels_first=False)
    # The offset of the first chunk is the cache's size: here it only has to be right for nothing to be added.
    if not growing:
        caches_end = graph.node("Unsqueeze", graph.node("Neg", "required_cache_size"), toy.ints(0))
        real = graph.node("Squeeze", graph.node("Cast", "att_mask", to=TensorProto.FLOAT), toy.ints(1))
        wrong = graph.node("Less", "offset", "required_cache_size")
        x = graph.node("Add", x, graph.node("Cast", wrong, to=TensorProto.FLOAT))
    att, cnn = [], []
    for layer in range(LAYERS):
        index = toy.ints(layer)
        projected = toy.project(x, layer, 0)
        heads = graph.node("Reshape", projected, toy.ints(-1, HEADS, key))
        values = graph.node("Transpose", heads, perm=[1, 0, 2])  # (heads, frames, width of a head)
        pairs = graph.node("Concat", values, values, axis=2)  # a key and a value
        cache = graph.node("Squeeze", graph.node("Gather", "att_cache", index, axis=0), toy.ints(0))
        whole = graph.node("Concat", cache, pairs, axis=1)
        att.append(graph.node("Unsqueeze", whole if growing else toy.last(whole, caches_end, 1), toy.ints(0)))
        seen = toy.last(whole, key, 2)
        seen = graph.node("Reshape", graph.node("Transpose", seen, perm=[1, 0, 2]), toy.ints(1, -1, WIDTH))
        mixed = graph.node("ReduceMean", seen, toy.ints(1)) if growing else toy.mean(seen, real)
        before = graph.node("Squeeze", graph.node("Gather", "cnn_cache", index, axis=0), toy.ints(0))
        x, after = toy.convolve(before, x, layer, 0)
        cnn.append(graph.node("Unsqueeze", after, toy.ints(0)))
        x = toy.bent(x, mixed, output="output" if layer == LAYERS - 1 else None)
    graph.node("Concat", *att, output="r_att_cache", axis=0)
    graph.node("Concat", *cnn, output="r_cnn_cache", axis=0)
    cnn_size: list[int | str] = [LAYERS, 1, WIDTH, CONV - 1]
    att_size: list[int | str] = [LAYERS, HEADS, "T_CACHE", 2 * key]
    inputs = [tensor("chunk", [1, "T", MELS])]
    if not growing:
        inputs += [tensor(name, [], TensorProto.INT64) for name in ("offset", "required_cache_size")]
    inputs += [tensor("att_cache", att_size), tensor("cnn_cache", cnn_size)]
    if not growing:
        inputs.append(tensor("att_mask", [1, 1, "T_ADD_T_CACHE"], TensorProto.BOOL))
    outputs = [tensor("output", [1, "T", WIDTH]), tensor("r_att_cache", att_size), tensor("r_cnn_cache", cnn_size)]
    encoder = graph.model("encoder", inputs, outputs)
    onnx.helper.set_model_props(encoder, {"decoding_window": str(shape.window), "chunk_size": str(shape.chunk)})
    ctc = _Toy(shape)
    ctc.head("hidden", "probs")
    head = ctc.graph.model("ctc", [tensor("hidden", [1, "T", WIDTH])], [tensor("probs", [1, "T", LABELS])])
    return encoder, head


def nemo_model() -> onnx.ModelProto:
    """`audio_signal`, its length and three caches, streams first, to `logprobs`, its lengths and three caches."""
    shape, toy = NEMO, _Toy(NEMO)
    graph = toy.graph
    x = toy.stem("audio_signal", channels_first=True)
    real = toy.real("cache_last_channel_len")
    channels, times = [], []
    for layer in range(LAYERS):
        channel, time = (
            graph.node("Squeeze", graph.node("Gather", f"cache_last_{name}", toy.ints(layer), axis=1), toy.ints(1))
            for name in ("channel", "time")
        )
        whole = graph.node("Concat", channel, toy.project(x, layer, 0), axis=1)
        channels.append(graph.node("Unsqueeze", toy.last(whole, shape.left, 1), toy.ints(1)))
        mixed = toy.mean(whole, real)
        x, after = toy.convolve(time, x, layer, 0)
        times.append(graph.node("Unsqueeze", after, toy.ints(1)))
        x = toy.bent(x, mixed)
    toy.head(x, "logprobs")
    graph.node("Concat", *channels, output="cache_last_channel_next", axis=1)
    graph.node("Concat", *times, output="cache_last_time_next", axis=1)
    more = graph.node("Add", "cache_last_channel_len", toy.ints(shape.chunk))
    graph.node("Min", more, toy.ints(shape.left), output="cache_last_channel_next_len")
    behind = graph.node("Sub", "length", toy.ints(shape.kernel - shape.subsampling))
    graph.node("Div", behind, toy.ints(shape.subsampling), output="encoded_lengths")
    channel_size: list[int | str] = ["B", LAYERS, shape.left, WIDTH]
    time_size: list[int | str] = ["B", LAYERS, WIDTH, CONV - 1]

    def caches(channel: str, time: str, length: str) -> list[onnx.ValueInfoProto]:
        return [tensor(channel, channel_size), tensor(time, time_size), tensor(length, ["B"], TensorProto.INT64)]

    inputs = [tensor("audio_signal", ["B", MELS, "T"]), tensor("length", ["B"], TensorProto.INT64)]
    inputs += caches("cache_last_channel", "cache_last_time", "cache_last_channel_len")
    outputs = [tensor("logprobs", ["B", "U", LABELS]), tensor("encoded_lengths", ["B"], TensorProto.INT64)]
    outputs += caches("cache_last_channel_next", "cache_last_time_next", "cache_last_channel_next_len")
    return graph.model("conformer", inputs, outputs)


ICEFALL_CARD = """
[features]
convention = "kaldi"
low_hz = 20
high_hz = -400
[input]
name = "x"
[output]
name = "log_probs"
shift_samples = 640
[streaming]
chunk_frames = 8
window_frames = 45
states = [
    { input = "cached_key_*", output = "new_cached_key_*", batch_axis = 1 },
    { input = "cached_nonlin_attn_*", output = "new_cached_nonlin_attn_*", batch_axis = 1 },
    { input = "cached_val1_*", output = "new_cached_val1_*", batch_axis = 1 },
    { input = "cached_val2_*", output = "new_cached_val2_*", batch_axis = 1 },
    { input = "cached_conv1_*", output = "new_cached_conv1_*" },
    { input = "cached_conv2_*", output = "new_cached_conv2_*" },
    { input = "embed_states", output = "new_embed_states" },
    { input = "processed_lens", output = "new_processed_lens" },
]
"""
_WENET_HEAD = """
[features]
convention = "kaldi"
scale = 32768
low_hz = 20
[input]
name = "chunk"
[output]
name = "output"
shift_samples = 640
[head]
files = { fp32 = "ctc.onnx" }
input = "hidden"
output = "probs"
[streaming]
chunk_frames = 4
window_frames = 19
"""
WENET_CARD = (
    _WENET_HEAD
    + """
states = [
    { input = "att_cache", output = "r_att_cache", batch_axis = -1, shape = [2, 2, 8, 8] },
    { input = "cnn_cache", output = "r_cnn_cache", batch_axis = 1 },
]
constants = [{ input = "required_cache_size", value = 8 }]
counters = [{ input = "offset", start = 8 }]
masks = [{ input = "att_mask", cached_frames = 8 }]
"""
)
WENET_GROWING_CARD = (
    _WENET_HEAD
    + """
states = [
    { input = "att_cache", output = "r_att_cache", batch_axis = -1, shape = [2, 2, 0, 8] },
    { input = "cnn_cache", output = "r_cnn_cache", batch_axis = 1 },
]
"""
)
NEMO_CARD = """
[features]
convention = "nemo"
channels_first = true
[vocabulary]
blank = 5
[input]
name = "audio_signal"
lengths = "length"
[output]
name = "logprobs"
lengths = "encoded_lengths"
shift_samples = 1280
[streaming]
chunk_frames = 3
window_frames = 33
history_frames = 9
states = [
    { input = "cache_last_channel", output = "cache_last_channel_next" },
    { input = "cache_last_time", output = "cache_last_time_next" },
    { input = "cache_last_channel_len", output = "cache_last_channel_next_len" },
]
"""


def icefall_stream(folder: Path) -> Path:
    """A zipformer with a CTC head."""
    return write_files(folder, ICEFALL_CARD, {"model.onnx": icefall_model()})


def wenet_stream(folder: Path) -> Path:
    """A conformer with two chunks of left context."""
    encoder, ctc = wenet_models(WENET)
    return write_files(folder, WENET_CARD, {"model.onnx": encoder, "ctc.onnx": ctc})


def wenet_growing_stream(folder: Path) -> Path:
    """A conformer that looks back to the beginning."""
    encoder, ctc = wenet_models(WENET_GROWING)
    return write_files(folder, WENET_GROWING_CARD, {"model.onnx": encoder, "ctc.onnx": ctc})


def nemo_stream(folder: Path) -> Path:
    """A cache-aware FastConformer."""
    return write_files(folder, NEMO_CARD, {"model.onnx": nemo_model()}, ["a", "b", "c", "d", "\u2581", "<blk>"])

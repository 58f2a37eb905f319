"""Our streaming model under the interface of T-one's CTC models, the one family of sherpa-onnx that hears raw samples.

What that family prescribes, and how the graph meets it without changing a number but by rounding:

- A step takes 2,400 samples, int32 (batch, 2400, 1), 300 ms at 8 kHz. Our model hears 384 samples a frame at 16 kHz,
  so a step is 6 frames, 2,304 samples, and the 96 behind them are padding that the graph drops: a client sends 144 ms
  and 96 zeros. Samples are rounded to 16 bits by sherpa-onnx, which they were before.
- The state is one tensor, float16 (batch, state_dim): our four, one behind the other. Keys and values are rounded to
  float16 between steps.
- Token 0 is `<blk>`, and `\N{LOWER ONE EIGHTH BLOCK}` (U+2581) is a space.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FRAMES = 6
"""Frames of a step; as many as fit into T-one's 2,400 samples."""
STEP_SAMPLES = 2_304
PADDED_SAMPLES = 2_400


def export(model: Path, tokens: Path, folder: Path) -> tuple[Path, Path]:
    """Write the graph and its tokens.

    Args:
        model: `model.*.onnx` of a streaming model of ours.
        tokens: Its `tokens.txt`.
        folder: Where to write `t-one.onnx` and `tokens.txt`.
    """
    graph = onnx.load(model)
    state_dim = _wrap(graph.graph)
    for key, value in {"frame_length_ms": 300, "state_dim": state_dim, "sample_rate": 8_000}.items():
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, str(value)
    target, symbols = folder / "t-one.onnx", folder / "tokens.txt"
    onnx.save(graph, target)
    names = {"<blank>": "<blk>", "<space>": "\u2581"}
    lines = (line.split() for line in tokens.read_text("utf-8").splitlines())
    symbols.write_text("".join(f"{names.get(symbol, symbol)} {number}\n" for symbol, number in lines), "utf-8")
    return target, symbols


def _wrap(graph: onnx.GraphProto) -> int:
    shapes = {each.name: [axis.dim_value for axis in each.type.tensor_type.shape.dim] for each in graph.input}
    _, layers, left, width = shapes["state_key"]
    sizes = [shapes["state_samples"][1], layers * left * width, layers * left * width, 1]

    def number(name: str, value: np.ndarray | np.generic) -> str:
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), f"t_one.const.{name}"))
        return f"t_one.const.{name}"

    def node(kind: str, inputs: list[str], outputs: list[str], **attributes: int) -> onnx.NodeProto:
        return helper.make_node(kind, inputs, outputs, **attributes)

    first, flat = number("first", np.array([1])), number("flat", np.array([0, -1]))
    cache = number("cache", np.array([-1, layers, left, width]))
    before = [
        node("Squeeze", ["signal", number("last", np.array([2]))], ["t_one.padded"]),
        node("Slice", ["t_one.padded", number("zero", np.array([0])), number("step", np.array([STEP_SAMPLES])), first],
             ["t_one.integers"]),
        node("Cast", ["t_one.integers"], ["t_one.samples"], to=TensorProto.FLOAT),
        node("Mul", ["t_one.samples", number("scale", np.float32(1 / 32_767))], ["samples"]),
        node("Cast", ["state"], ["t_one.state"], to=TensorProto.FLOAT),
        node("Split", ["t_one.state", number("sizes", np.array(sizes))],
             ["state_samples", "t_one.key", "t_one.value", "t_one.frames"], axis=1),
        node("Reshape", ["t_one.key", cache], ["state_key"]),
        node("Reshape", ["t_one.value", cache], ["state_value"]),
        node("Cast", ["t_one.frames"], ["state_frames"], to=TensorProto.INT64),
    ]  # fmt: skip
    after = [
        node("Reshape", ["next_key", flat], ["t_one.next_key"]),
        node("Reshape", ["next_value", flat], ["t_one.next_value"]),
        node("Cast", ["next_frames"], ["t_one.next_frames"], to=TensorProto.FLOAT),
        node("Concat", ["next_samples", "t_one.next_key", "t_one.next_value", "t_one.next_frames"], ["t_one.next"],
             axis=1),
        node("Cast", ["t_one.next"], ["next"], to=TensorProto.FLOAT16),
    ]  # fmt: skip
    nodes = [*before, *graph.node, *after]
    labels = graph.output[0].type.tensor_type.shape.dim[-1].dim_value
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    value = helper.make_tensor_value_info
    graph.input.extend(
        [
            value("signal", TensorProto.INT32, ["batch", PADDED_SAMPLES, 1]),
            value("state", TensorProto.FLOAT16, ["batch", sum(sizes)]),
        ]
    )
    graph.output.extend(
        [
            value("log_probs", TensorProto.FLOAT, ["batch", FRAMES, labels]),
            value("next", TensorProto.FLOAT16, ["batch", sum(sizes)]),
        ]
    )
    return sum(sizes)

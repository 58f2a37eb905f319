"""Small CTC models with the interfaces of `moonshine-ctc` and `stream-ctc`, for tests: seeded, made in milliseconds.

Their frames are the encoder's (895 samples, one each 384): the log-softmax of a random projection of the window. The
streaming one remembers the last 511 samples.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LABELS = ["<blk>", "<space>", "'", *"abcdefghijklmnopqrstuvwxyz"]
WINDOW, SHIFT = 895, 384
RUNGS = "".join(
    f'{form} = "model.onnx"\n'
    for form in ("plain", "fp16-autocast", "int8-qdq", "int8-balanced", "int8-dynamic", "int8-static")
)
CARD = f"""\
family = "ctc"
name = "small-ctc"

[files]
fp32 = "model.onnx"
fp16 = "model.onnx"
int8 = "model.onnx"
{RUNGS}
[input]
lengths = "lengths"
window_samples = {WINDOW}

[output]
lengths = "frames"
shift_samples = {SHIFT}
"""


STREAM_CARD = f"""\
family = "ctc"
name = "small-stream"

[files]
fp32 = "model.onnx"
fp16 = "model.onnx"
int8 = "model.onnx"
{RUNGS}
[output]
shift_samples = {SHIFT}

[streaming]
chunk_frames = 4

[[streaming.states]]
input = "state_samples"
output = "next_samples"
"""


def write_small_stream(folder: Path) -> Path:
    """Write the streaming model, its labels and its card; returns the folder."""
    write_small_ctc(folder)
    onnx.save(stream_model(), folder / "model.onnx")
    (folder / "model-card.toml").write_text(STREAM_CARD, "utf-8")
    return folder


def write_small_ctc(folder: Path) -> Path:
    """Write the model, its labels and its card; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model(), folder / "model.onnx")
    (folder / "tokens.txt").write_text("".join(f"{label} {index}\n" for index, label in enumerate(LABELS)), "utf-8")
    (folder / "model-card.toml").write_text(CARD, "utf-8")
    return folder


def kernel() -> np.ndarray:
    """The projection: float32 (labels, 1, window)."""
    rng = np.random.default_rng(0)
    return (rng.standard_normal((len(LABELS), 1, WINDOW)) * 0.3).astype(np.float32)


def model() -> onnx.ModelProto:
    """`samples`, `lengths` to `log_probs`, `frames`."""
    info, node = helper.make_tensor_value_info, helper.make_node
    nodes = [
        *_projection("samples"),
        node("Add", ["lengths", "more"], ["longer"]),
        node("Max", ["longer", "zero"], ["positive"]),
        node("Div", ["positive", "shift"], ["frames"]),
    ]
    numbers = {"more": SHIFT - WINDOW, "zero": 0, "shift": SHIFT}
    constants = [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in numbers.items()]
    inputs = [info("samples", TensorProto.FLOAT, ["batch", "n"]), info("lengths", TensorProto.INT64, ["batch"])]
    outputs = [
        info("log_probs", TensorProto.FLOAT, ["batch", "time", len(LABELS)]),
        info("frames", TensorProto.INT64, ["batch"]),
    ]
    return _model(nodes, inputs, outputs, constants)


def stream_model() -> onnx.ModelProto:
    """`samples`, `state_samples` to `log_probs`, `next_samples`."""
    info, node = helper.make_tensor_value_info, helper.make_node
    carry = WINDOW - SHIFT
    nodes = [
        node("Concat", ["state_samples", "samples"], ["heard"], axis=1),
        *_projection("heard"),
        node("Slice", ["heard", "start", "end", "one"], ["next_samples"]),
    ]
    numbers = {"start": -carry, "end": np.iinfo(np.int64).max}
    constants = [numpy_helper.from_array(np.array([value], np.int64), name) for name, value in numbers.items()]
    inputs = [
        info("samples", TensorProto.FLOAT, ["batch", "n"]),
        info("state_samples", TensorProto.FLOAT, ["batch", carry]),
    ]
    outputs = [
        info("log_probs", TensorProto.FLOAT, ["batch", "time", len(LABELS)]),
        info("next_samples", TensorProto.FLOAT, ["batch", carry]),
    ]
    return _model(nodes, inputs, outputs, constants)


def _projection(samples: str) -> list[onnx.NodeProto]:
    node = helper.make_node
    return [
        node("Unsqueeze", [samples, "one"], ["wave"]),
        node("Conv", ["wave", "kernel"], ["scores"], strides=[SHIFT]),
        node("Transpose", ["scores"], ["frames_first"], perm=[0, 2, 1]),
        node("LogSoftmax", ["frames_first"], ["log_probs"], axis=-1),
    ]


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: list[onnx.TensorProto],
) -> onnx.ModelProto:
    shared = {"kernel": kernel(), "one": np.array([1], np.int64)}
    constants = [*constants, *(numpy_helper.from_array(value, name) for name, value in shared.items())]
    graph = helper.make_graph(nodes, "small_ctc", inputs, outputs, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(made)
    return made

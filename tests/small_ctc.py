"""A small CTC model with the interface of `moonshine-ctc`, for tests: seeded, exact, and made in milliseconds.

Its frames are the encoder's (895 samples, one each 384): the log-softmax of a random projection of the window.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LABELS = ["<blk>", "<space>", "'", *"abcdefghijklmnopqrstuvwxyz"]
WINDOW, SHIFT = 895, 384
CARD = f"""\
family = "ctc"
name = "small-ctc"

[files]
fp32 = "model.onnx"
fp16 = "model.onnx"
int8 = "model.onnx"

[input]
window_samples = {WINDOW}

[output]
shift_samples = {SHIFT}
"""


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
    def constant(name: str, value: np.ndarray) -> onnx.TensorProto:
        return numpy_helper.from_array(value, name)

    node = helper.make_node
    nodes = [
        node("Unsqueeze", ["samples", "one"], ["wave"]),
        node("Conv", ["wave", "kernel"], ["scores"], strides=[SHIFT]),
        node("Transpose", ["scores"], ["frames_first"], perm=[0, 2, 1]),
        node("LogSoftmax", ["frames_first"], ["log_probs"], axis=-1),
        node("Add", ["lengths", "more"], ["longer"]),
        node("Max", ["longer", "zero"], ["positive"]),
        node("Div", ["positive", "shift"], ["frames"]),
    ]
    constants = [
        constant("kernel", kernel()),
        constant("one", np.array([1], np.int64)),
        constant("more", np.array(SHIFT - WINDOW, np.int64)),
        constant("zero", np.array(0, np.int64)),
        constant("shift", np.array(SHIFT, np.int64)),
    ]
    info = helper.make_tensor_value_info
    inputs = [info("samples", TensorProto.FLOAT, ["batch", "n"]), info("lengths", TensorProto.INT64, ["batch"])]
    outputs = [
        info("log_probs", TensorProto.FLOAT, ["batch", "time", len(LABELS)]),
        info("frames", TensorProto.INT64, ["batch"]),
    ]
    graph = helper.make_graph(nodes, "small_ctc", inputs, outputs, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(made)
    return made

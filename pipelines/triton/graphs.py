"""Small graphs of the model repository that have no weights."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def preprocessor() -> onnx.ModelProto:
    """PCM16 to a waveform.

    Inputs: `pcm` int16 (batch, samples).
    Outputs: `waveform` float32 (batch, samples), in [-1, 1), and `lengths` int64 (batch, 1), the samples of each.
    """
    nodes = [
        helper.make_node("Cast", ["pcm"], ["whole"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["whole", "scale"], ["waveform"]),
        helper.make_node("Shape", ["pcm"], ["count"], start=1, end=2),
        helper.make_node("Shape", ["pcm"], ["rows"], start=0, end=1),
        helper.make_node("Concat", ["rows", "one"], ["shape"], axis=0),
        helper.make_node("Expand", ["count", "shape"], ["lengths"]),
    ]
    graph = helper.make_graph(
        nodes,
        "preprocessor",
        [helper.make_tensor_value_info("pcm", TensorProto.INT16, ["batch", "samples"])],
        [
            helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["batch", "samples"]),
            helper.make_tensor_value_info("lengths", TensorProto.INT64, ["batch", 1]),
        ],
        [
            numpy_helper.from_array(np.array(1 / 32_768, np.float32), "scale"),
            numpy_helper.from_array(np.array([1], np.int64), "one"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

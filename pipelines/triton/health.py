"""Whether a server is well: not that it says so, but that it computes the right answer.

A server whose Python backend runs on the wrong numpy, or whose stub is dead, still says that it is ready.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

MODEL = "known-answer"
_CONFIG = """\
# The health probe's model: y = 2 x + 1.
backend: "onnxruntime"
max_batch_size: 1
input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 4 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
"""


def write_model(repository: Path) -> None:
    """Write the probe's model into a repository."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder = repository / MODEL
    (folder / "1").mkdir(parents=True, exist_ok=True)
    (folder / "config.pbtxt").write_text(_CONFIG, "utf-8")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in "xy")
    constants = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in (("a", 2), ("b", 1))]
    nodes = [helper.make_node("Mul", ["x", "a"], ["ax"]), helper.make_node("Add", ["ax", "b"], ["y"])]
    graph = helper.make_graph(nodes, "known_answer", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "1" / "model.onnx")


def known_answer(client: Any, question: int, timeout_s: float) -> bool:
    """Ask the probe's model a question; whether the answer is right.

    Args:
        client: A `tritonclient.grpc.InferenceServerClient`.
        question: Any number; another one each time, so that no stale answer passes.
        timeout_s: How long to wait for it.

    Raises:
        InferenceServerException: There was no answer.
    """
    from tritonclient.grpc import InferInput

    x = np.arange(question, question + 4, dtype=np.float32)[None]
    tensor = InferInput("x", list(x.shape), "FP32")
    tensor.set_data_from_numpy(x)
    y = client.infer(MODEL, [tensor], client_timeout=timeout_s).as_numpy("y")
    return y is not None and bool(np.array_equal(y, 2 * x + 1))

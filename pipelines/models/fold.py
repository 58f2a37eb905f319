"""Folding: from a shipped `.ort` file to plain ONNX whose weights are float32 initializers.

The shipped files keep each weight as int8 `q` with a scale `s` and a float offset `z`, and compute
`w = q * s + z` by three nodes (Cast, Mul, Add) at every call. `z` is a whole multiple of `s`, so the same weight
is also `s * (q - zero_point)` with the integer `zero_point = -z / s`: an affine int8 tensor, exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.errors import AmiraError

_CAST, _MUL, _ADD = "_cast_node", "_mul_node", "_add_node"


@dataclass(frozen=True, slots=True)
class AffineWeight:
    """A weight as it was shipped: `value = scale * (q - zero_point)`.

    Attributes:
        q: int8, the weight's own shape.
        scale: The step, one for the whole tensor.
        zero_point: The integer that stands for 0.
        value: float32, as the shipped graph computes it (`q * s + z` in float32).
    """

    q: npt.NDArray[np.int8]
    scale: np.float32
    zero_point: int
    value: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FoldedModel:
    """A folded graph, and the shipped form of each weight by the initializer's name."""

    model: Any
    affine: dict[str, AffineWeight]


def read_ort(path: Path) -> Any:
    """Read a `.ort` file as an `onnx.ModelProto`, by having ONNX Runtime write it back unoptimised.

    Raises:
        AmiraError: ONNX Runtime does not take the file.
    """
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.save_model_format", "ONNX")
    options.log_severity_level = 3
    with TemporaryDirectory() as folder:
        target = Path(folder) / "model.onnx"
        options.optimized_model_filepath = str(target)
        try:
            onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise AmiraError(f"{path} is not an ORT model that this ONNX Runtime reads: {error}") from error
        return onnx.load(target)


def fold(model: Any) -> FoldedModel:
    """Replace every dequantisation chain by a float32 initializer of the same name, in place.

    Args:
        model: `onnx.ModelProto` from `read_ort`.

    Raises:
        AmiraError: There is no such chain: the file is not what we know how to fold.
    """
    import onnx
    from onnx import numpy_helper

    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    producers = {node.output[0]: node for node in graph.node}
    affine: dict[str, AffineWeight] = {}
    dead_nodes: set[str] = set()
    dead_constants: set[str] = set()
    for add in graph.node:
        if add.op_type != "Add" or not add.name.endswith(_ADD):
            continue
        mul = producers[add.input[0]]
        cast = producers[mul.input[0]]
        names = cast.input[0], mul.input[1], add.input[1]
        q, scale, offset = (numpy_helper.to_array(constants[name]) for name in names)
        affine[add.output[0]] = _affine(add.output[0], q, scale, offset)
        dead_nodes.update((add.name, mul.name, cast.name))
        dead_constants.update(names)
    if not affine:
        raise AmiraError("the model has no dequantisation chains to fold; it is not a shipped Moonshine file")
    _replace(graph.node, (node for node in list(graph.node) if node.name not in dead_nodes))
    kept = [tensor for tensor in graph.initializer if tensor.name not in dead_constants]
    folded = [numpy_helper.from_array(weight.value, name) for name, weight in affine.items()]
    _replace(graph.initializer, kept + folded)
    _name_graphs(graph, "main")
    _replace(model.opset_import, [entry for entry in list(model.opset_import) if entry.domain in ("", "ai.onnx")])
    model.ir_version = 8  # opset 14 needs no more, and older runtimes read it
    onnx.checker.check_model(model)
    return FoldedModel(model, affine)


def _affine(
    name: str, q: npt.NDArray[np.int8], scale: npt.NDArray[np.float32], offset: npt.NDArray[np.float32]
) -> AffineWeight:
    steps = float(-offset.item() / scale.item())
    if abs(steps - round(steps)) > 1e-3:
        raise AmiraError(
            f"the offset of weight '{name}' is {steps:.4f} steps, not a whole number: cannot keep it as int8"
        )
    value = q.astype(np.float32) * scale.astype(np.float32) + offset.astype(np.float32)
    return AffineWeight(q, np.float32(scale.item()), round(steps), value)


def _replace(field: Any, values: Iterable[Any]) -> None:
    values = list(values)
    del field[:]
    field.extend(values)


def _name_graphs(graph: Any, name: str) -> None:
    """Give every graph a name, also those inside `If` nodes: the checker asks for it, the shipped file has none."""
    import onnx

    graph.name = graph.name or name
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _name_graphs(attribute.g, attribute.name)

"""The package's encoder under the names of the PyTorch twin."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pipelines.models import source
from pipelines.models.fold import fold, read_ort
from pipelines.models.moonshine import LAYERS, Weights


def encoder_state() -> dict[str, Tensor]:
    """Every weight of Moonshine's encoder, as `Network` names it.

    Raises:
        AmiraError: The package's files are missing or have the wrong hash.
    """
    from onnx import numpy_helper

    folded = fold(read_ort(source.verified(source.ENCODER)))
    weights = Weights.of_encoder(folded)
    constants = {item.name: numpy_helper.to_array(item) for item in folded.model.graph.initializer}
    nodes = {node.name: node for node in folded.model.graph.node}
    state: dict[str, np.ndarray] = {
        "conv1.weight": constants[nodes["/conv1/Conv"].input[1]],
        "groupnorm.weight": weights.vector("groupnorm/Mul").reshape(-1),
        "groupnorm.bias": weights.vector("groupnorm/Add").reshape(-1),
        "layer_norm.weight": weights.vector("layer_norm/Mul"),
    }
    for name in ("conv2", "conv3"):
        node = nodes[f"/{name}/Conv"]
        state |= {f"{name}.weight": constants[node.input[1]], f"{name}.bias": constants[node.input[2]]}
    for layer in range(LAYERS):
        name = f"layers.{layer}"
        for part in ("q", "k", "v"):
            state[f"{name}.self_attn.{part}_proj.weight"] = weights.linear(
                f"{name}/self_attn/{part}_proj/MatMul"
            ).value.T
        state[f"{name}.self_attn.o_proj.weight"] = weights.linear(f"{name}/self_attn/dense/MatMul").value.T
        for norm in ("input_layernorm", "post_attention_layernorm"):
            state[f"{name}.{norm}.weight"] = weights.vector(f"{name}/{norm}/Mul")
        for part in ("fc1", "fc2"):
            state[f"{name}.mlp.{part}.weight"] = weights.linear(f"{name}/mlp/{part}/MatMul").value.T
            state[f"{name}.mlp.{part}.bias"] = weights.vector(f"{name}/mlp/{part}/Add")
    return {name: torch.from_numpy(np.array(value, np.float32)) for name, value in state.items()}

"""The default model's weights as `acoustic/simd` reads them: the shipped int8 numbers, packed in panels.

One file, `panels.npz`, with three groups of arrays (`encoder`, `cross`, `step`). In each group the matrices follow
each other in the order in which they are used, so that a loop over the layers walks through memory once:
    weights: int8, flat, all matrices as `kernels.dense.packed` lays them down
    scale, zero, bias: float32, int32, float32 for every output of every matrix, in the same order
    gains: float32, the norms' gains in the order of their use
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from kernels.dense import packed
from pipelines.models.fold import FoldedModel
from pipelines.models.moonshine import HEAD_WIDTH, LAYERS, Float32, Linear, Weights, beside

Arrays = dict[str, npt.NDArray[np.generic]]
Product = tuple[Linear, Float32 | None]
"""A matrix and its bias."""
_SCORE_SCALE = 1 / math.sqrt(HEAD_WIDTH)


def encoder_panels(folded: FoldedModel) -> Arrays:
    """The encoder: `conv1` apart, float32 as shipped; then conv2, conv3 and the layers' products."""
    weights = Weights.of_encoder(folded)
    kernel = weights.kernel("conv1/Conv")
    products: list[Product] = [
        (matrix, weights.vector(f"{name}/Conv"))
        for name in ("conv2", "conv3")
        for matrix in weights.convolution(f"{name}/Conv")
    ]
    gains = [weights.vector(f"groupnorm/{part}").reshape(-1) for part in ("Mul", "Add")]
    for layer in range(LAYERS):
        name = f"layers.{layer}"
        products += [
            (_queries_keys_values(weights, f"{name}/self_attn"), None),
            (weights.linear(f"{name}/self_attn/dense/MatMul"), None),
            _biased(weights, f"{name}/mlp/fc1"),
            _biased(weights, f"{name}/mlp/fc2"),
        ]
        gains += [weights.vector(f"{name}/{norm}/Mul") for norm in ("input_layernorm", "post_attention_layernorm")]
    gains.append(weights.vector("layer_norm/Mul"))
    first: Arrays = {"encoder.conv1": packed(kernel.reshape(kernel.shape[0], -1).T)}
    return first | _group("encoder", products, gains)


def decoder_panels(weights: Weights) -> Arrays:
    """The decoder: keys and values of the clip (`cross`), the layers and the output projection (`step`)."""
    cross: list[Product] = []
    step: list[Product] = []
    gains = []
    for layer in range(LAYERS):
        name = f"layers.{layer}"
        query, *rest = (weights.linear(f"{name}/encoder_attn/{part}_proj/MatMul") for part in "qkv")
        cross.append((beside(f"{name}.kv", *rest), None))
        step += [
            (_queries_keys_values(weights, f"{name}/self_attn"), None),
            (weights.linear(f"{name}/self_attn/dense/MatMul"), None),
            (query.scaled(_SCORE_SCALE), None),
            (weights.linear(f"{name}/encoder_attn/dense/MatMul"), None),
            _biased(weights, f"{name}/mlp/up_proj"),
            _biased(weights, f"{name}/mlp/down_proj"),
        ]
        norms = ("input_layernorm", "post_attention_layernorm", "final_layernorm")
        gains += [weights.vector(f"{name}/{norm}/Mul") for norm in norms]
    step.append((weights.embedding(), None))
    gains.append(weights.vector("norm/Mul"))
    return _group("cross", cross, []) | _group("step", step, gains)


def _queries_keys_values(weights: Weights, name: str) -> Linear:
    query, key, value = (weights.linear(f"{name}/{part}_proj/MatMul") for part in "qkv")
    return beside(f"{name}.qkv", query.scaled(_SCORE_SCALE), key, value)


def _biased(weights: Weights, name: str) -> Product:
    return weights.linear(f"{name}/MatMul"), weights.vector(f"{name}/Add")


def _group(group: str, products: Iterable[Product], gains: list[Float32]) -> Arrays:
    matrices, biases = zip(*products, strict=True)
    flat = [np.zeros(m.scale.size, np.float32) if b is None else b for m, b in zip(matrices, biases, strict=True)]
    return {
        f"{group}.weights": np.concatenate([packed(matrix.q) for matrix in matrices]),
        f"{group}.scale": np.concatenate([matrix.scale for matrix in matrices]),
        f"{group}.zero": np.concatenate([matrix.zero_point for matrix in matrices]),
        f"{group}.bias": np.concatenate(flat),
        f"{group}.gains": np.concatenate([np.zeros(0, np.float32), *gains]),
    }

"""INT8 as explicit Q/DQ: standard operators that TensorRT takes and that ONNX Runtime fuses into integer products.

Activations have one calibrated scale for the tensor and weights one for each output, both symmetric, as TensorRT wants
them. Channels that are large in every frame would take the scale for themselves, so their size is moved into the
weights first (`SmoothedWeights`; Xiao et al., "SmoothQuant", 2023): a norm's gain is divided by what the rows of the
matrix behind it are multiplied by, which costs nothing and changes no FP32 result.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from pipelines.models.graph import GraphWriter, LinearWriter, float_linear
from pipelines.models.moonshine import Float32, Linear, WeightSource
from pipelines.models.trained import quantized

LEVELS = 127
NORM_OF = {"self_attn.qkv": "input_layernorm", "mlp.fc1.MatMul": "post_attention_layernorm"}
"""The norm in front of a layer's product, by the product's name within its layer."""
_READS = {
    **{f"self_attn/{part}_proj": "input_layernorm" for part in "qkv"},
    "mlp/fc1": "post_attention_layernorm",
}
"""The same by the node of each weight."""
STEM_NORM, STEM_PRODUCT = "groupnorm", "conv2"
"""The stem's norm, and the convolution behind it."""


def qdq_linear(ranges: Mapping[str, float], float32: Collection[str] = ()) -> LinearWriter:
    """Writes a product in INT8 where its input's range is known and it is not to stay FP32.

    Args:
        ranges: Matrix name to the largest magnitude of its input that is told apart.
        float32: Names of matrices that stay as they are.
    """

    def write(graph: GraphWriter, x: str, matrix: Linear) -> str:
        if matrix.name in float32 or matrix.name not in ranges:
            return float_linear(graph, x, matrix)
        zero = graph.constant("int8.zero", np.int8(0))
        scale = graph.constant(f"{matrix.name}.input_scale", np.float32(ranges[matrix.name] / LEVELS))
        rounded = graph.node("DequantizeLinear", graph.node("QuantizeLinear", x, scale, zero), scale, zero)
        small = quantized(matrix.name, matrix.value)
        weight = graph.node(
            "DequantizeLinear",
            graph.constant(f"{matrix.name}.q", small.q),
            graph.constant(f"{matrix.name}.scale", small.scale),
            graph.constant(f"{matrix.name}.zero_point", np.zeros(small.scale.size, np.int8)),
            axis=1,
        )
        return graph.node("MatMul", rounded, weight)

    return write


class SmoothedWeights:
    """Implements `pipelines.models.moonshine.WeightSource`: the weights, with norms and matrices in balance.

    Args:
        weights: What they are made from.
        factors: Norm, e.g. `layers.3/input_layernorm`, to float32 (width,): what its output is divided by.
    """

    def __init__(self, weights: WeightSource, factors: Mapping[str, Float32]) -> None:
        self._weights, self._factors = weights, factors

    def vector(self, node: str) -> Float32:
        """See `WeightSource`; a norm's gain is divided, and its offset where it has one."""
        value = self._weights.vector(node)
        norm, _, operator = node.rpartition("/")
        factor = self._factors.get(norm) if operator in ("Mul", "Add") else None
        return value if factor is None else (value / factor.reshape(value.shape)).astype(np.float32)

    def linear(self, node: str) -> Linear:
        """See `WeightSource`; the rows of a matrix behind a norm are multiplied."""
        matrix = self._weights.linear(node)
        layer, _, product = node.removesuffix("/MatMul").partition("/")
        factor = self._factors.get(f"{layer}/{_READS.get(product, '')}")
        return matrix if factor is None else quantized(matrix.name, matrix.value * factor[:, None])

    def convolution(self, node: str) -> tuple[Linear, ...]:
        """See `WeightSource`; the rows behind the stem's norm are multiplied, a channel at each step of the window."""
        first, *rest = self._weights.convolution(node)
        factor = self._factors.get(STEM_NORM) if node.startswith(STEM_PRODUCT) else None
        if factor is not None:
            rows = np.tile(factor, len(first.value) // len(factor))
            first = quantized(first.name, first.value * rows[:, None])
        return (first, *rest)

    def kernel(self, node: str) -> Float32:
        """See `WeightSource`."""
        return self._weights.kernel(node)

    def own(self, name: str) -> Float32:
        """See `WeightSource`."""
        return self._weights.own(name)


def balance(activations: Float32, weights: Float32, strength: float = 0.5) -> Float32:
    """What each channel is divided by, so that neither activations nor weights have all of the spread.

    Args:
        activations: float32 (width,), the largest magnitude of each channel.
        weights: float32 (width,), the largest magnitude of each row of the matrix.
        strength: 0 leaves the activations as they are, 1 makes their channels equal.
    """
    tiny = np.float32(1e-5)
    factors = np.maximum(activations, tiny) ** strength / np.maximum(weights, tiny) ** (1 - strength)
    return np.maximum(factors, tiny).astype(np.float32)

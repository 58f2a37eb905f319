"""INT8 with scales found while running, and weights that no CPU saturates.

A CPU without VNNI adds two products of 8 bits in 16 (`vpmaddubsw`): 255 times the weights of two neighbouring inputs
has to stay below 32,768, so their magnitudes may make 128 together. ONNX Runtime's way around it (`exact_int8`) is
slower, and seven bits cost half of the levels; here most columns keep nearly all of eight.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from pipelines.models.graph import GraphWriter, LinearWriter, float_linear, quantized
from pipelines.models.moonshine import Float32, Linear

LEVELS = 127
PAIR = 128
"""What the magnitudes of two neighbouring weights make together at most."""
STEPS = np.linspace(0, 1, 8, dtype=np.float32)
"""Scales that are tried for a column, between the one that fits its largest weight into 127 and that for its pairs."""


def dynamic_linear(float32: Collection[str] = (), by_row: Collection[str] = ()) -> LinearWriter:
    """Writes products in INT8: activations are rounded to uint8 while running, with one scale for the tensor.

    Args:
        float32: Names of matrices that stay as they are.
        by_row: Names of matrices before which each row is divided by its largest magnitude, and multiplied by it
            behind: of frames that are loud and quiet, none loses its levels to the others.
    """

    def write(graph: GraphWriter, x: str, matrix: Linear) -> str:
        if matrix.name in float32:
            return float_linear(graph, x, matrix)
        if matrix.name not in by_row:
            return _product(graph, x, matrix)
        last = graph.constant("last_axis", np.array([-1], np.int64))
        largest = graph.node("ReduceMax", graph.node("Abs", x), last, keepdims=1)
        size = graph.node("Max", largest, graph.constant("tiny", np.finfo(np.float32).tiny))
        return graph.node("Mul", _product(graph, graph.node("Div", x, size), matrix), size)

    return write


def _product(graph: GraphWriter, x: str, matrix: Linear) -> str:
    """The nodes that ONNX Runtime fuses into one."""
    rounded, scale, offset = quantized(graph, x)
    q, scales = pair_limited(matrix.value)
    product = graph.node("MatMulInteger", rounded, graph.constant(f"{matrix.name}.q", q), offset)
    gain = graph.node("Mul", scale, graph.constant(f"{matrix.name}.scale", scales))
    return graph.node("Mul", graph.node("Cast", product, to=TensorProto.FLOAT), gain)


def pair_limited(value: Float32) -> tuple[npt.NDArray[np.int8], Float32]:
    """A matrix (inputs, outputs) in int8, `value` being nearly `scales * q`, and float32 (outputs,) scales.

    No two inputs 2 k and 2 k + 1 have weights of more than 128 together; of the scales that are tried, each column has
    the one with the least squared error.
    """
    sizes, tiny = np.abs(value), np.finfo(np.float32).tiny
    finest = np.maximum(sizes.max(axis=0), tiny) / np.float32(LEVELS)
    in_pairs = np.add.reduceat(sizes, np.arange(0, len(sizes), 2)).max(axis=0)
    coarsest = np.maximum(finest, in_pairs / np.float32(PAIR))
    best = np.full(value.shape[1], np.inf, np.float32)
    scales, chosen = finest.copy(), np.zeros(value.shape, np.int8)
    for step in STEPS:
        scale = finest + step * (coarsest - finest)
        q = limited(np.rint(value / scale).astype(np.int8))
        error = np.square(q * scale - value).sum(axis=0)
        better = error < best
        best[better], scales[better], chosen[:, better] = error[better], scale[better], q[:, better]
    return chosen, scales


def limited(q: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Integers (inputs, outputs) from -127 to 127; a pair that is too much is brought nearer to zero, half by half.

    The smaller one of such a pair is larger than what both have too much, since the other is 127 at most.
    """
    inputs, outputs = q.shape
    pairs = np.concatenate([q, np.zeros((inputs % 2, outputs), np.int8)]).reshape(-1, 2, outputs).astype(np.int16)
    sizes = np.abs(pairs)
    over = np.maximum(sizes.sum(axis=1) - PAIR, 0)
    sizes[:, 0] -= (over + 1) // 2
    sizes[:, 1] -= over // 2
    return (np.sign(pairs) * sizes).astype(np.int8).reshape(-1, outputs)[:inputs]

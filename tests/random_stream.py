"""Streaming encoders of random weights, as `pipelines.models.stream_graph` writes them: for tests and for timing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from pipelines.models.graph import float_linear
from pipelines.models.moonshine import WIDTH, Float32, Linear
from pipelines.models.stream_graph import StreamShape, stream_graph
from pipelines.models.trained import quantized

LABELS = 29


class RandomWeights:
    """Implements `pipelines.models.moonshine.WeightSource`: products keep the spread of what they get."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def vector(self, node: str) -> Float32:
        """Gains about 1, all else about 0."""
        wide = 4 * WIDTH if "fc1" in node else 2 * WIDTH if "conv2" in node else WIDTH
        return self._normal(wide, spread=0.1) + np.float32(node.endswith("Mul"))

    def linear(self, node: str) -> Linear:
        """The matrix of a layer's product."""
        deep, wide = (WIDTH, 4 * WIDTH) if "fc1" in node else (4 * WIDTH, WIDTH) if "fc2" in node else (WIDTH, WIDTH)
        return self._linear(node.replace("/", "."), deep, wide)

    def convolution(self, node: str) -> tuple[Linear, ...]:
        """The matrix of a window."""
        name = node.removesuffix("/Conv")
        size = (7 * WIDTH, 2 * WIDTH) if name == "conv2" else (6 * WIDTH, WIDTH)
        return (self._linear(name, *size),)

    def kernel(self, node: str) -> Float32:
        """The first convolution's."""
        return self._normal(WIDTH, 1, 127, spread=0.5)

    def own(self, name: str) -> Float32:
        """The head's."""
        return self._normal(LABELS, WIDTH, spread=0.1) if name == "head.weight" else self._normal(LABELS)

    def _linear(self, name: str, deep: int, wide: int) -> Linear:
        return quantized(name, self._normal(deep, wide, spread=deep**-0.5))

    def _normal(self, *shape: int, spread: float = 1.0) -> Float32:
        return (spread * self._rng.standard_normal(shape)).astype(np.float32)


def write_random_stream(path: Path, *, layers: int, left: int, seed: int = 0) -> Path:
    """Write the plain form; returns its path."""
    shape = StreamShape(layers, left, 0.02, 0.5)
    onnx.save(stream_graph(RandomWeights(seed), float_linear, shape, plain=True), path)
    return path

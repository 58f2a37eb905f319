"""Moonshine's numbers, and its weights by the names of the nodes that use them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pipelines.errors import AmiraError
from pipelines.models.fold import AffineWeight, FoldedModel

LAYERS = 8
HEADS = 8
HEAD_WIDTH = 52
WIDTH = HEADS * HEAD_WIDTH
ROTARY_WIDTH = 32
"""The first dimensions of each head that are rotated, in interleaved pairs."""
ROTARY_BASE = 10_000.0
VOCABULARY = 32_768
START_TOKEN = 1
END_TOKEN = 2
LAYER_NORM_EPSILON = 1e-5
MAX_TOKENS_PER_S = 6.5
"""The model's own cap on tokens per second of audio, against endless repetition."""
FRAME_SAMPLES = 384
"""Samples per encoder frame: the strides 64, 3 and 2 of the stem."""

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Linear:
    """A weight matrix in both its forms.

    Attributes:
        name: Unique in the graph that it goes into.
        value: float32 (inputs, outputs).
        q: int8 (inputs, outputs), with `value = scale * (q - zero_point)` per output column.
        scale: float32 (outputs,).
        zero_point: int32 (outputs,).
    """

    name: str
    value: Float32
    q: npt.NDArray[np.int8]
    scale: Float32
    zero_point: npt.NDArray[np.int32]

    def scaled(self, factor: float) -> Linear:
        """The same matrix times a factor; its int8 form stays exact, since only the scale changes."""
        gain = np.float32(factor)
        return Linear(self.name, self.value * gain, self.q, self.scale * gain, self.zero_point)


def beside(name: str, *parts: Linear) -> Linear:
    """One matrix whose outputs are those of `parts` one after the other."""
    return Linear(
        name,
        np.concatenate([part.value for part in parts], axis=1),
        np.concatenate([part.q for part in parts], axis=1),
        np.concatenate([part.scale for part in parts]),
        np.concatenate([part.zero_point for part in parts]),
    )


class WeightSource(Protocol):
    """Gives weights by the names of the nodes that use them in the package's graphs."""

    def vector(self, node: str) -> Float32:
        """The constant that a node uses beside a weight: a bias or a norm's gain or offset, as it has it."""
        ...

    def linear(self, node: str) -> Linear:
        """The matrix that a MatMul multiplies by."""
        ...

    def convolution(self, node: str) -> tuple[Linear, ...]:
        """A Conv as the matrix of a window, or two factors of it: all channels of its first step, then its second..."""
        ...

    def kernel(self, node: str) -> Float32:
        """A Conv's weights as it has them: float32 (outputs, inputs, width)."""
        ...

    def own(self, name: str) -> Float32:
        """A tensor that only training can have made, by its PyTorch name."""
        ...


class Weights:
    """Looks weights up in a folded graph by the names of the nodes that use them."""

    def __init__(self, folded: FoldedModel, graphs: Sequence[Any], prefix: str) -> None:
        """Look in `graphs`, the last of which has the nodes; `prefix` starts the name of each of them."""
        from onnx import numpy_helper

        self._affine = folded.affine
        self._prefix = prefix
        self._nodes: dict[str, Any] = {node.name: node for node in graphs[-1].node}
        self._constants = {
            tensor.name: numpy_helper.to_array(tensor)
            for graph in graphs
            for tensor in graph.initializer
            if tensor.name not in folded.affine
        }

    @classmethod
    def of_encoder(cls, folded: FoldedModel) -> Weights:
        """The weights of the folded encoder."""
        return cls(folded, [folded.model.graph], "/")

    @classmethod
    def of_decoder(cls, folded: FoldedModel) -> Weights:
        """The weights of the folded merged decoder; its `else_branch` uses all of them."""
        graph = folded.model.graph
        branch = next(
            attribute.g
            for node in graph.node
            if node.op_type == "If"
            for attribute in node.attribute
            if attribute.name == "else_branch"
        )
        return cls(folded, [graph, branch], "/model/decoder/")

    def vector(self, node: str) -> Float32:
        """The constant that a node uses beside a weight: a bias or a norm's gain or offset, as it has it."""
        names = self._nodes[self._prefix + node].input
        return next(self._constants[name] for name in names if name in self._constants)

    def linear(self, node: str) -> Linear:
        """The matrix that a MatMul multiplies by."""
        weight = self._weight(node)
        return _linear(node.replace("/", "."), weight, weight.value, weight.q)

    def convolution(self, node: str) -> tuple[Linear, ...]:
        """A Conv as the matrix of a window: all channels of its first step, then of its second, and so on."""
        weight = self._weight(node)
        outputs = weight.q.shape[0]
        value = weight.value.transpose(2, 1, 0).reshape(-1, outputs)
        q = weight.q.transpose(2, 1, 0).reshape(-1, outputs)
        return (_linear(node.replace("/", "."), weight, value, q),)

    def kernel(self, node: str) -> Float32:
        """A Conv's weights as it has them: float32 (outputs, inputs, width)."""
        name = self._nodes[self._prefix + node].input[1]
        return self._affine[name].value if name in self._affine else self._constants[name]

    def own(self, name: str) -> Float32:
        """There are none."""
        raise AmiraError(f"the package's weights have no tensor '{name}': that one is made by training")

    def embedding(self) -> Linear:
        """The token embeddings, which are also the output projection: `value` is (width, vocabulary)."""
        weight = self._weight("embed_tokens/Gather")
        return _linear("embedding", weight, weight.value.T, weight.q.T)

    def _weight(self, node: str) -> AffineWeight:
        names = self._nodes[self._prefix + node].input
        return next(self._affine[name] for name in names if name in self._affine)


def _linear(name: str, weight: AffineWeight, value: Float32, q: npt.NDArray[np.int8]) -> Linear:
    outputs = q.shape[1]
    scale = np.full(outputs, weight.scale, np.float32)
    return Linear(name, value, q, scale, np.full(outputs, weight.zero_point, np.int32))

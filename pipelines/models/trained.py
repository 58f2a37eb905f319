"""Weights that we trained, over those of the package: what a file does not have comes out of the folded encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipelines.errors import AmiraError
from pipelines.models.moonshine import Float32, Linear, Weights

_NAMES = {"dense": "o_proj"}
"""Where the package's graph calls a module otherwise than the trained twin does."""


class TrainedWeights:
    """Implements `pipelines.models.moonshine.WeightSource`.

    Args:
        tensors: Name to float32 tensor in PyTorch's layouts: `layers.4.mlp.fc1.weight` is (outputs, inputs).
        package: Gives what `tensors` has not.
    """

    def __init__(self, tensors: Mapping[str, Float32], package: Weights) -> None:
        self._tensors, self._package = tensors, package

    def vector(self, node: str) -> Float32:
        """A bias, or a norm's gain or offset."""
        module, _, operator = node.rpartition("/")
        name = _module(module)
        if operator == "Conv" and f"{name}.up.bias" in self._tensors:
            name = f"{name}.up"
        found = self._tensors.get(f"{name}.{'bias' if operator in ('Add', 'Conv') else 'weight'}")
        return self._package.vector(node) if found is None else found

    def linear(self, node: str) -> Linear:
        """The matrix of a layer's product."""
        found = self._tensors.get(f"{_module(node.removesuffix('/MatMul'))}.weight")
        return self._package.linear(node) if found is None else quantized(node.replace("/", "."), found.T)

    def convolution(self, node: str) -> tuple[Linear, ...]:
        """A convolution of the stem as a matrix over windows, or as its two factors `down` and `up`."""
        name = node.removesuffix("/Conv")
        parts = [f"{name}.down", f"{name}.up"] if f"{name}.down.weight" in self._tensors else [name]
        found = [self._tensors.get(f"{part}.weight") for part in parts]
        matrices = tuple(
            quantized(part, tensor.transpose(2, 1, 0).reshape(-1, tensor.shape[0]))
            for part, tensor in zip(parts, found, strict=True)
            if tensor is not None
        )
        return matrices or self._package.convolution(node)

    def kernel(self, node: str) -> Float32:
        """A convolution's kernel as it is."""
        found = self._tensors.get(f"{node.removesuffix('/Conv')}.weight")
        return self._package.kernel(node) if found is None else found

    def own(self, name: str) -> Float32:
        """A tensor that only training can have made.

        Raises:
            AmiraError: It is not there.
        """
        if name not in self._tensors:
            raise AmiraError(f"the trained weights have no tensor '{name}'; they have: {', '.join(self._tensors)}")
        return self._tensors[name]


def quantized(name: str, value: Float32) -> Linear:
    """A matrix (inputs, outputs) with its int8 form: one scale for each output, the zero point 0."""
    scale = np.maximum(np.abs(value).max(axis=0), np.finfo(np.float32).tiny) / np.float32(127)
    q = np.clip(np.rint(value / scale), -127, 127).astype(np.int8)
    outputs = value.shape[1]
    return Linear(name, np.ascontiguousarray(value), q, scale.astype(np.float32), np.zeros(outputs, np.int32))


def load(path: Path) -> dict[str, Float32]:
    """The tensors of a safetensors file, as float32.

    Raises:
        AmiraError: It is not there, or is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return {name: np.asarray(value, np.float32) for name, value in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise AmiraError(
            f"cannot read the weights {path}: {error}. Restore the file: git checkout -- {path}"
        ) from error


def _module(path: str) -> str:
    parts = path.split("/")
    return ".".join(_NAMES.get(part, part) for part in parts)

"""How a weight matrix lies in memory for the products of `kernels.simd_dense`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

PANEL = 32
"""Columns that lie together."""
GROUP = 4
"""Inputs of one column that lie together where integers are multiplied: what one instruction adds up."""


def packed(matrix: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A matrix (inputs, outputs) as panels, flat: 32 outputs of the first input, the same of the second, and so on.

    Raises:
        ValueError: The number of outputs is no multiple of 32.
    """
    inputs, outputs = matrix.shape
    if outputs % PANEL:
        raise ValueError(f"a matrix is packed in panels of {PANEL} outputs, got {outputs}")
    return np.ascontiguousarray(matrix.reshape(inputs, -1, PANEL).transpose(1, 0, 2)).reshape(-1)


def grouped(panels: npt.NDArray[np.int8], inputs: int) -> npt.NDArray[np.int8]:
    """Panels of a matrix of so many inputs (see `packed`), with four inputs of each column side by side.

    Raises:
        ValueError: `inputs` is no multiple of 4.
    """
    if inputs % GROUP:
        raise ValueError(f"inputs are laid down in groups of {GROUP}, got {inputs}")
    by_group = panels.reshape(-1, inputs // GROUP, GROUP, PANEL).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(by_group).reshape(-1)


def column_sums(panels: npt.NDArray[np.int8], inputs: int) -> npt.NDArray[np.int32]:
    """The sum of every column of a matrix of so many inputs, from its panels (see `packed`)."""
    sums: npt.NDArray[np.int32] = panels.reshape(-1, inputs, PANEL).sum(axis=1, dtype=np.int32).reshape(-1)
    return sums

"""How a weight matrix lies in memory for the products of `kernels.simd_dense`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

PANEL = 32
"""Columns that lie together."""


def packed(matrix: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A matrix (inputs, outputs) as panels, flat: 32 outputs of the first input, the same of the second, and so on.

    Raises:
        ValueError: The number of outputs is no multiple of 32.
    """
    inputs, outputs = matrix.shape
    if outputs % PANEL:
        raise ValueError(f"a matrix is packed in panels of {PANEL} outputs, got {outputs}")
    return np.ascontiguousarray(matrix.reshape(inputs, -1, PANEL).transpose(1, 0, 2)).reshape(-1)

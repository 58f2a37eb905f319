"""How a weight matrix lies in memory for the products of `kernels.simd_dense`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

PANEL = 32
"""Columns that lie together."""
BLOCK_ROWS = 96
"""Rows of A that go through all panels before the next ones: 1,664 wide they stay in L2."""
BLOCK_DEPTH = 96
"""Rows of a float32 panel that meet all rows of A before the next ones: 12 KiB, which stay in L1."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """How rows are rounded where integers are multiplied (`kernels.simd_codes`).

    Attributes:
        dtype: Of a code.
        group: Inputs of one column of weights that lie together: what one instruction adds up.
        largest: The code of the largest size in a row.
        middle: The code of 0.
    """

    dtype: npt.DTypeLike
    group: int
    largest: int
    middle: int

    def offsets(self, panels: npt.NDArray[np.int8], inputs: int) -> npt.NDArray[np.int32]:
        """What every column of panels gains by the middle of the codes."""
        return self.middle * column_sums(panels, inputs)


ROUNDINGS = {16: Rounding(np.uint8, 4, 127, 128), 8: Rounding(np.int16, 2, 4095, 0)}
"""By lanes. AVX-512 with VNNI adds up four products of 8 bits in one instruction. AVX2 has nothing as exact for 8 bits,
but adds up two products of 16 bits: there a code may have 13, with which sums of 2,048 inputs stay within 32 (of 4,096
where weights have no zero point)."""


def packed(matrix: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A matrix (inputs, outputs) as panels, flat: 32 outputs of the first input, the same of the second, and so on.

    Raises:
        ValueError: The number of outputs is no multiple of 32.
    """
    inputs, outputs = matrix.shape
    if outputs % PANEL:
        raise ValueError(f"a matrix is packed in panels of {PANEL} outputs, got {outputs}")
    return np.ascontiguousarray(matrix.reshape(inputs, -1, PANEL).transpose(1, 0, 2)).reshape(-1)


def grouped(panels: npt.NDArray[np.int8], inputs: int, group: int) -> npt.NDArray[np.int8]:
    """Panels of a matrix of so many inputs (see `packed`), with `group` inputs of each column side by side.

    Raises:
        ValueError: `inputs` is no multiple of `group`.
    """
    if inputs % group:
        raise ValueError(f"inputs are laid down in groups of {group}, got {inputs}")
    by_group = panels.reshape(-1, inputs // group, group, PANEL).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(by_group).reshape(-1)


def column_sums(panels: npt.NDArray[np.int8], inputs: int) -> npt.NDArray[np.int32]:
    """The sum of every column of a matrix of so many inputs, from its panels (see `packed`)."""
    sums: npt.NDArray[np.int32] = panels.reshape(-1, inputs, PANEL).sum(axis=1, dtype=np.int32).reshape(-1)
    return sums

"""OpenFst's binary files as arrays, for searches that want nothing else of it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipelines.errors import AmiraError

MAGIC = 2125659606
_REMEDY = "Build the graph again: amira graph build"


@dataclass(frozen=True)
class Transducer:
    """A transducer over the tropical semiring: weights are costs.

    Attributes:
        start: The start state.
        finals: float32 (states,): cost of ending there, infinite where it cannot end.
        sources, inputs, outputs, targets: int32 (arcs,), in the order of `sources`.
        costs: float32 (arcs,).
    """

    start: int
    finals: npt.NDArray[np.float32]
    sources: npt.NDArray[np.int32]
    inputs: npt.NDArray[np.int32]
    outputs: npt.NDArray[np.int32]
    costs: npt.NDArray[np.float32]
    targets: npt.NDArray[np.int32]

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        arrays = (self.finals, self.sources, self.inputs, self.outputs, self.costs, self.targets)
        return sum(array.nbytes for array in arrays)


def read(path: Path) -> Transducer:
    """Read a file of kind `vector`, arcs `standard`, without symbol tables: what `StdVectorFst.write` makes.

    Raises:
        AmiraError: It cannot be read, is of another kind, or is cut short or damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AmiraError(f"cannot read the transducer {path}: {error}. {_REMEDY}") from error
    try:
        start, states, body = _header(data)
        return _body(start, states, body)
    except (ValueError, IndexError, struct.error) as error:
        raise AmiraError(f"{path} is not a transducer that can be read: {error}. {_REMEDY}") from error


def _header(data: bytes) -> tuple[int, int, npt.NDArray[np.int32]]:
    """Start state, number of states, and what follows the header as int32."""

    def text(at: int) -> tuple[str, int]:
        [size] = struct.unpack_from("<i", data, at)
        if not 0 <= size < 100:
            raise ValueError("its header is damaged")
        return data[at + 4 : at + 4 + size].decode("ascii", "replace"), at + 4 + size

    if struct.unpack_from("<i", data)[0] != MAGIC:
        raise ValueError("it does not begin as OpenFst's files do")
    kind, at = text(4)
    arcs, at = text(at)
    if (kind, arcs) != ("vector", "standard"):
        raise ValueError(f"it is of kind '{kind}' with arcs '{arcs}', not 'vector' with 'standard'")
    _, flags, _, start, states, _ = struct.unpack_from("<iiQqqq", data, at)
    at += struct.calcsize("<iiQqqq")
    if flags & 3:
        raise ValueError("it carries symbol tables; write it without")
    if not 0 <= start < states:
        raise ValueError(f"it has {states} states and starts at {start}")
    if (len(data) - at) % 4:
        raise ValueError("it is cut short")
    return start, states, np.frombuffer(data, np.int32, offset=at)


def _body(start: int, states: int, body: npt.NDArray[np.int32]) -> Transducer:
    # A state is its final cost (4 bytes), its number of arcs (8), and its arcs (16 each).
    words = memoryview(body.tobytes()).cast("i")
    heads = np.empty(states, np.int64)
    at = 0
    for state in range(states):
        heads[state] = at
        at += 3 + 4 * words[at + 1]
    if at != body.size:
        raise ValueError("it is cut short")
    rest = np.ones(body.size, np.bool_)
    for offset in range(3):
        rest[heads + offset] = False
    arcs = body[rest].reshape(-1, 4)
    inputs, outputs, targets = (np.ascontiguousarray(arcs[:, column]) for column in (0, 1, 3))
    costs = np.ascontiguousarray(arcs[:, 2]).view(np.float32)
    if arcs.size and (targets.min() < 0 or targets.max() >= states or inputs.min() < 0 or outputs.min() < 0):
        raise ValueError("an arc leads out of it")
    finals = body[heads].view(np.float32)
    if np.isnan(costs).any() or np.isnan(finals).any():
        raise ValueError("a weight is NaN")
    sources = np.repeat(np.arange(states, dtype=np.int32), body[heads + 1])
    return Transducer(start, finals, sources, inputs, outputs, costs, targets)

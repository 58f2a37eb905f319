"""Holds a model's card against its ONNX file before anything is run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.errors import AmiraError, unknown
from pipelines.models.model_card import FILE, CtcCard

_FLOAT = ("tensor(float)",)
_INTEGERS = ("tensor(int64)", "tensor(int32)")


def check_card(card: CtcCard, session: Any, labels: int, file: Path) -> None:
    """Refuse a card that does not fit its file.

    Args:
        card: The card.
        session: An ONNX Runtime session of the file.
        labels: How many labels the vocabulary has.
        file: For messages.

    Raises:
        AmiraError: A name is not there, a tensor has another rank, type or size, an input is not spoken of, or the
            vocabulary has another size than the output.
    """
    inputs, outputs = ({each.name: each for each in found} for found in (session.get_inputs(), session.get_outputs()))
    where = f"model card {file.parent / FILE} and {file.name} contradict each other"
    taken, given = _Side("input", inputs, where), _Side("output", outputs, where)
    features = card.features
    shape = taken.tensor(card.input.name, _FLOAT, 2 if features is None else 3)
    if features is not None:
        axis = 1 if features.channels_first else 2
        if isinstance(shape[axis], int) and shape[axis] != features.mels:
            raise AmiraError(
                f"{where}: input '{card.input.name}' is {shape}, with {shape[axis]} on axis {axis}, where the card has "
                f"{features.mels} mel channels. Mend mels or channels_first under [features]"
            )
    labels_there = given.tensor(card.output.name, _FLOAT, 3)[2]
    if isinstance(labels_there, int) and labels_there != labels:
        raise AmiraError(
            f"{where}: output '{card.output.name}' has {labels_there} labels, the vocabulary {card.vocabulary.file} "
            f"has {labels}. Take the vocabulary that the model was trained with"
        )
    for side, name in ((taken, card.input.lengths), (given, card.output.lengths)):
        if name is not None:
            side.tensor(name, _INTEGERS, 1)
    spoken_of = {card.input.name, card.input.lengths}
    for state in card.streaming.states if card.streaming else ():
        before = taken.tensor(state.input)
        after = given.tensor(state.output)
        spoken_of.add(state.input)
        if len(before) != len(after) or any(
            isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(before, after, strict=True)
        ):
            raise AmiraError(f"{where}: state '{state.input}' is {before} and becomes '{state.output}' of {after}")
        if state.batch_axis >= len(before):
            raise AmiraError(f"{where}: state '{state.input}' is {before}: it has no batch axis {state.batch_axis}")
    if extra := set(inputs) - spoken_of:
        raise AmiraError(
            f"{where}: the model also wants {', '.join(sorted(extra))}. Name lengths under [input] and states under "
            "[streaming]; whatever else must be made a constant of the graph"
        )


class _Side:
    """The inputs or the outputs of a session."""

    def __init__(self, kind: str, tensors: Mapping[str, Any], where: str) -> None:
        self._kind, self._tensors, self._where = kind, tensors, where

    def tensor(self, name: str, types: tuple[str, ...] = (), rank: int | None = None) -> list[Any]:
        """The shape of a tensor, checked."""
        if name not in self._tensors:
            error = unknown(f"{self._kind}", name, self._tensors, "Mend the name in the card.")
            raise AmiraError(f"{self._where}: {error}")
        found = self._tensors[name]
        shape = list(found.shape)
        if (types and found.type not in types) or (rank is not None and len(shape) != rank):
            wanted = f"{' or '.join(types)} with {rank} axes"
            raise AmiraError(f"{self._where}: {self._kind} '{name}' is {found.type} {shape}, it should be {wanted}")
        return shape

"""Holds a model's card against its ONNX files before anything is run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.acoustic.front import SHIFT_SAMPLES
from pipelines.errors import AmiraError, unknown
from pipelines.models.model_card import FILE, CtcCard, FeaturesCard, HeadCard, MadeCard, StateCard, StreamingCard

_FLOAT = ("tensor(float)",)
_INTEGERS = ("tensor(int64)", "tensor(int32)")
_STATES = (*_FLOAT, *_INTEGERS, "tensor(bool)")
_METADATA = {
    "window_frames": ("T", "window_size", "decoding_window"),
    "feature frames of a chunk": ("decode_chunk_len", "chunk_shift"),
}
"""What toolkits write into their files about the window and the chunk, by what it is here."""


def check_card(card: CtcCard, session: Any, labels: int, file: Path, head: Any = None) -> CtcCard:
    """Refuse a card that does not fit its file.

    Args:
        card: The card.
        session: An ONNX Runtime session of the file.
        labels: How many labels the vocabulary has.
        file: For messages.
        head: A session of the card's [head], where it has one.

    Returns:
        The card, each state by its own name where the card has a pattern.

    Raises:
        AmiraError: A name is not there, a tensor has another rank, type or size, an input is not spoken of, or the
            vocabulary has another size than the output.
    """
    inputs, outputs = ({each.name: each for each in found} for found in (session.get_inputs(), session.get_outputs()))
    where = f"model card {file.parent / FILE} and {file.name} contradict each other"
    taken, given = _Side("input", inputs, where), _Side("output", outputs, where)
    _check_input(card, taken, where)
    shape = given.tensor(card.output.name, _FLOAT, 3)
    if card.head is not None:
        shape = _check_head(card, card.head, head, shape[2], where)
    if isinstance(shape[2], int) and shape[2] != labels:
        raise AmiraError(
            f"{where}: output '{card.head.output if card.head else card.output.name}' has {shape[2]} labels, the "
            f"vocabulary {card.vocabulary.file} has {labels}. Take the vocabulary that the model was trained with"
        )
    for side, name in ((taken, card.input.lengths), (given, card.output.lengths)):
        if name is not None:
            side.tensor(name, _INTEGERS, 1)
    spoken_of = {card.input.name, card.input.lengths}
    if card.streaming is not None:
        card = card.model_copy(update={"streaming": _expanded(card.streaming, inputs, where)})
        assert card.streaming is not None
        _check_states(card.streaming, taken, given, where)
        _check_made(card.streaming, taken, where)
        spoken_of |= {state.input for state in card.streaming.states}
        spoken_of |= {made.input for made in _made(card.streaming)}
        if card.features is not None:
            _check_chunk(card, card.streaming, shape[1], session.get_modelmeta().custom_metadata_map, where)
    if extra := set(inputs) - spoken_of:
        raise AmiraError(
            f"{where}: the model also wants {', '.join(sorted(extra))}. Name lengths under [input], and states, "
            "constants, counters and masks under [streaming]; whatever else must be made a constant of the graph"
        )
    return card


def feature_shift(card: CtcCard, streaming: StreamingCard) -> int:
    """Feature frames from one chunk to the next."""
    return streaming.chunk_frames * card.output.shift_samples // SHIFT_SAMPLES


def check_sense(card: CtcCard, where: str) -> None:
    """Refuse a card that contradicts itself, or asks for what is not supported.

    Raises:
        AmiraError: It does.
    """
    streaming, features = card.streaming, card.features
    if card.head is not None and (streaming is None or features is None):
        raise AmiraError(f"{where}: [head] is for models that stream features. Merge the two graphs into one")
    if streaming is None:
        return
    if features is None:
        told = any(state.shape or state.start or state.batch_axis < 0 for state in streaming.states)
        if told or streaming.window_frames or streaming.history_frames or _made(streaming):
            raise AmiraError(
                f"{where}: window_frames, history_frames, constants, counters, masks, and states with a shape, a start "
                "or no batch axis are for models that stream features, and the card has no [features]"
            )
        return
    shift = streaming.chunk_frames * card.output.shift_samples
    if shift % SHIFT_SAMPLES:
        raise AmiraError(
            f"{where}: a chunk of {streaming.chunk_frames} frames every {card.output.shift_samples} samples is not a "
            f"whole number of feature frames every {SHIFT_SAMPLES} samples. Mend chunk_frames or shift_samples"
        )
    need = streaming.history_frames + shift // SHIFT_SAMPLES
    if streaming.window_frames is None or streaming.window_frames < need:
        raise AmiraError(
            f"{where}: window_frames is {streaming.window_frames}, and a chunk has {shift // SHIFT_SAMPLES} feature "
            f"frames behind {streaming.history_frames} of history. Say under [streaming] how many the model takes, at "
            f"least {need}"
        )
    if features.per_feature:
        raise AmiraError(f"{where}: per_feature normalises over a whole clip, which a stream does not know")
    if streaming.lookahead_samples is not None:
        raise AmiraError(f"{where}: lookahead_samples follows from window_frames where there are [features]: remove it")


def _check_input(card: CtcCard, taken: _Side, where: str) -> None:
    features = card.features
    shape = taken.tensor(card.input.name, _FLOAT, 2 if features is None else 3)
    if features is None:
        return
    mels, frames = _axes(features)
    if isinstance(shape[mels], int) and shape[mels] != features.mels:
        raise AmiraError(
            f"{where}: input '{card.input.name}' is {shape}, with {shape[mels]} on axis {mels}, where the card has "
            f"{features.mels} mel channels. Mend mels or channels_first under [features]"
        )
    if card.streaming and isinstance(shape[frames], int) and shape[frames] != card.streaming.window_frames:
        raise AmiraError(
            f"{where}: input '{card.input.name}' is {shape}, with {shape[frames]} frames on axis {frames}, where the "
            f"card has window_frames = {card.streaming.window_frames}"
        )


def _axes(features: FeaturesCard) -> tuple[int, int]:
    """The axes of mels and of frames."""
    return (1, 2) if features.channels_first else (2, 1)


def _check_head(card: CtcCard, head: HeadCard, session: Any, width: Any, where: str) -> list[Any]:
    inputs, outputs = ({each.name: each for each in found} for found in (session.get_inputs(), session.get_outputs()))
    before = _Side("input of the head", inputs, where).tensor(head.input, _FLOAT, 3)
    if isinstance(width, int) and isinstance(before[2], int) and width != before[2]:
        raise AmiraError(
            f"{where}: the head's '{head.input}' takes {before[2]} values a frame, '{card.output.name}' has {width}"
        )
    if extra := set(inputs) - {head.input}:
        raise AmiraError(f"{where}: the head also wants {', '.join(sorted(extra))}, and gets '{head.input}' alone")
    return _Side("output of the head", outputs, where).tensor(head.output, _FLOAT, 3)


def _expanded(streaming: StreamingCard, inputs: Mapping[str, Any], where: str) -> StreamingCard:
    """The states with every `*` replaced by what is there in the file."""
    found: list[StateCard] = []
    for state in streaming.states:
        before, star, after = state.input.partition("*")
        if state.output.count("*") != len(star) or "*" in after:
            raise AmiraError(
                f"{where}: state '{state.input}' becomes '{state.output}': one * in both names, or none in either"
            )
        if not star:
            found.append(state)
            continue
        names = [name for name in inputs if name.startswith(before) and name.endswith(after)]
        if not names:
            raise unknown(f"{where}: state", state.input, inputs, "Mend the pattern in the card.")
        for name in names:
            middle = name[len(before) : len(name) - len(after)]
            output = state.output.replace("*", middle)
            found.append(state.model_copy(update={"input": name, "output": output}))
    return streaming.model_copy(update={"states": tuple(found)})


def _check_states(streaming: StreamingCard, taken: _Side, given: _Side, where: str) -> None:
    for state in streaming.states:
        before, after = taken.tensor(state.input, _STATES), given.tensor(state.output, _STATES)
        if len(before) != len(after) or any(
            isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(before, after, strict=True)
        ):
            raise AmiraError(f"{where}: state '{state.input}' is {before} and becomes '{state.output}' of {after}")
        if state.batch_axis >= len(before):
            raise AmiraError(f"{where}: state '{state.input}' is {before}: it has no batch axis {state.batch_axis}")
        sizes = state.shape or [1 if axis == state.batch_axis else size for axis, size in enumerate(before)]
        if len(sizes) != len(before) or any(
            isinstance(size, int) and size != told and axis != state.batch_axis
            for axis, (size, told) in enumerate(zip(before, sizes, strict=False))
        ):
            raise AmiraError(f"{where}: state '{state.input}' is {before}, which is not of shape {list(sizes)}")
        if not all(isinstance(size, int) for size in sizes):
            raise AmiraError(
                f"{where}: state '{state.input}' is {before}: a state needs a fixed size on every axis but its batch "
                f"axis, which the card says is {state.batch_axis}. Mend batch_axis, or say its shape"
            )


def _made(streaming: StreamingCard) -> tuple[MadeCard, ...]:
    return (*streaming.constants, *streaming.counters, *streaming.masks)


def _check_made(streaming: StreamingCard, taken: _Side, where: str) -> None:
    numbers: tuple[MadeCard, ...] = (*streaming.constants, *streaming.counters)
    for number in numbers:
        if len(shape := taken.tensor(number.input, _INTEGERS)) > 1:
            raise AmiraError(f"{where}: input '{number.input}' is {shape}, it should be one number, or one a stream")
    for mask in streaming.masks:
        last = taken.tensor(mask.input, ("tensor(bool)",), 3)[2]
        wanted = mask.cached_frames + streaming.chunk_frames
        if isinstance(last, int) and last != wanted:
            raise AmiraError(
                f"{where}: mask '{mask.input}' has {last} frames, the card's cached_frames and chunk_frames are "
                f"{mask.cached_frames} and {streaming.chunk_frames}"
            )


def _check_chunk(card: CtcCard, streaming: StreamingCard, frames: Any, metadata: Mapping[str, str], where: str) -> None:
    if isinstance(frames, int) and frames != streaming.chunk_frames:
        raise AmiraError(f"{where}: a step gives {frames} frames, the card has chunk_frames = {streaming.chunk_frames}")
    told = {
        "window_frames": streaming.window_frames,
        "feature frames of a chunk": feature_shift(card, streaming),
    }
    for what, keys in _METADATA.items():
        for key in keys:
            if metadata.get(key, "").isdecimal() and int(metadata[key]) != told[what]:
                raise AmiraError(
                    f"{where}: the file's own metadata has {key} = {metadata[key]}, the card says {told[what]} "
                    f"({what}). Mend window_frames, chunk_frames or shift_samples"
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
            wanted = " or ".join(types) + (f" with {rank} axes" if rank is not None else "")
            raise AmiraError(f"{self._where}: {self._kind} '{name}' is {found.type} {shape}, it should be {wanted}")
        return shape

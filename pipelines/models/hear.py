"""Running a graph over speech while it is being made: clips in, what every frame gives out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.acoustic.sessions import EXACT_INT8
from pipelines.models.moonshine import Float32

Arrays = dict[str, npt.NDArray[Any]]


class Listener:
    """A session of a graph of ours that is fed clip by clip; models of chunks get a whole clip chunk by chunk.

    Args:
        model: The graph.
        outputs: Which of its outputs are wanted.
        chunk_samples: For a model of chunks.
    """

    def __init__(self, model: Any, outputs: Sequence[str], chunk_samples: int | None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry(EXACT_INT8, "1")
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._outputs, self._chunk = list(outputs), chunk_samples
        self._inputs = {each.name: each for each in self._session.get_inputs()}

    def runs(self, samples: Float32) -> Iterator[tuple[Arrays, Arrays]]:
        """What goes in and comes out over a clip, float32 (samples,): one run, or one for each whole chunk."""
        if self._chunk is None:
            feeds = whole_clip(self._inputs, samples)
            yield feeds, self._run(feeds, self._outputs)
            return
        states = zero_states(self._inputs)
        following = [name.replace("state_", "next_") for name in states]
        for start in range(0, samples.size - self._chunk + 1, self._chunk):
            feeds = {"samples": samples[None, start : start + self._chunk], **states}
            found = self._run(feeds, self._outputs + following)
            yield feeds, found
            states = {name: found[after] for name, after in zip(states, following, strict=True)}

    def all_of(self, clips: Sequence[Float32], output: str) -> list[Float32]:
        """One output over all clips, (frames, width) for each."""
        return [np.concatenate([found[output][0] for _, found in self.runs(clip)]) for clip in clips]

    def _run(self, feeds: Arrays, outputs: list[str]) -> Arrays:
        return dict(zip(outputs, self._session.run(outputs, dict(feeds)), strict=True))


def whole_clip(inputs: Mapping[str, Any], samples: Float32) -> Arrays:
    """What a model of whole clips takes."""
    if "input_values" in inputs:
        return {"input_values": samples[None]}
    return {"samples": samples[None], "lengths": np.array([samples.size])}


def zero_states(inputs: Mapping[str, Any]) -> Arrays:
    """The states at the start of a stream."""
    return {
        name: np.zeros((1, *each.shape[1:]), np.int64 if "int64" in each.type else np.float32)
        for name, each in inputs.items()
        if name.startswith("state_")
    }

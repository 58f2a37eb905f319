"""Greedy CTC decoding on the server. Label 0 is the blank; `tokens.txt` beside this file has the others."""

from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

BLANK = 0


class TritonPythonModel:
    """One instance of the model."""

    def initialize(self, args):
        """Read the labels: `label id` a line, a space for the label that is one."""
        lines = (Path(__file__).parent / "tokens.txt").read_text("utf-8").splitlines()
        labels = {int(line.rpartition(" ")[2]): line.rpartition(" ")[0] for line in lines}
        self._labels = [{"<space>": " "}.get(labels[index], labels[index]) for index in range(len(labels))]

    def execute(self, requests):
        """Decode every clip of every request."""
        responses = []
        for request in requests:
            log_probs, frames = (
                pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in ("log_probs", "frames")
            )
            texts = [[self._text(clip[: int(count)])] for clip, count in zip(log_probs, frames.ravel())]  # noqa: B905
            tensor = pb_utils.Tensor("text", np.array(texts, np.object_))
            responses.append(pb_utils.InferenceResponse(output_tensors=[tensor]))
        return responses

    def _text(self, log_probs):
        best = log_probs.argmax(axis=1)
        kept = best[np.flatnonzero(np.diff(best, prepend=BLANK))]
        text = "".join(self._labels[label] for label in kept if label != BLANK)
        return " ".join(text.split()).encode("utf-8")

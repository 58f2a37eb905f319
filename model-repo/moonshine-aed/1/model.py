"""Greedy decoding of Moonshine on the server, by calls to the models of its parts (Business Logic Scripting)."""

from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

LAYERS, HEADS, HEAD_WIDTH = 8, 8, 52
START, END = 1, 2
SAMPLE_RATE, MAX_TOKENS_PER_S = 16_000, 6.5
CACHES = [f"{kind}.{layer}" for layer in range(LAYERS) for kind in ("key", "value")]


class TritonPythonModel:
    """One instance of the model."""

    def initialize(self, args):
        """Read the token table."""
        self._tokens = list(_tokens((Path(__file__).parent / "tokenizer.bin").read_bytes()))

    def execute(self, requests):
        """Transcribe every request's clip; one that fails does not fail the others."""
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        waveform = pb_utils.get_input_tensor_by_name(request, "waveform").as_numpy()
        try:
            tokens = self._decode(waveform[None])
        except pb_utils.TritonModelException as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        text = b"".join(self._tokens[token] for token in tokens if token < len(self._tokens))
        text = text.decode("utf-8", "replace").replace("\u2581", " ").strip()
        outputs = [
            pb_utils.Tensor("text", np.array([text.encode("utf-8")], np.object_)),
            pb_utils.Tensor("tokens", np.array(tokens, np.int64)),
        ]
        return pb_utils.InferenceResponse(output_tensors=outputs)

    def _decode(self, waveform):
        [hidden] = _call("moonshine-encoder", [pb_utils.Tensor("input_values", waveform)], ["last_hidden_state"])
        names = [f"cross_{name}" for name in CACHES]
        cross = _call("moonshine-cross", [_renamed(hidden, "hidden")], names)
        empty = np.zeros((1, HEADS, 0, HEAD_WIDTH), np.float32)
        past = [pb_utils.Tensor(f"past_{name}", empty) for name in CACHES]
        wanted = ["logits", *(f"present_{name}" for name in CACHES)]
        tokens, token = [], START
        for _ in range(max(1, int(np.ceil(waveform.shape[1] / SAMPLE_RATE * MAX_TOKENS_PER_S)))):
            ids = pb_utils.Tensor("input_ids", np.array([[token]], np.int64))
            logits, *present = _call("moonshine-step", [ids, *cross, *past], wanted)
            past = [_renamed(tensor, f"past_{name}") for tensor, name in zip(present, CACHES)]  # noqa: B905
            token = int(logits.as_numpy()[0, -1].argmax())
            if token == END:
                break
            tokens.append(token)
        return tokens


def _call(model, inputs, outputs):
    request = pb_utils.InferenceRequest(model_name=model, inputs=inputs, requested_output_names=outputs)
    response = request.exec()
    if response.has_error():
        raise pb_utils.TritonModelException(f"{model}: {response.error().message()}")
    return [pb_utils.get_output_tensor_by_name(response, name) for name in outputs]


def _renamed(tensor, name):
    return pb_utils.Tensor(name, tensor.as_numpy())


def _tokens(data):
    """Byte strings one after the other, each behind its length; from 128 on it takes two bytes."""
    at = 0
    while at < len(data):
        size, at = data[at], at + 1
        if size >= 128:
            size, at = size - 128 + 128 * data[at], at + 1
        yield data[at : at + size]
        at += size

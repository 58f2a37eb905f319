"""Triton's backend `onnxruntime`, on top of its Python backend: runs any `model.onnx` as its `config.pbtxt` says.

It stands where a GPU Triton has its own ONNX Runtime backend, so that the very same configurations load in both. It
runs in Triton's private environment and imports nothing of ours. `parameters` of a configuration that it heeds:

- `intra_op_thread_count`: threads of the session (1), as the real backend has it.
- `state`: for sequence batching, `output=input` pairs separated by spaces. Each output is kept for its sequence and is
  the input of the next request; a sequence starts with zeros in the shape that the model declares, symbolic sizes as
  0. (Triton's own implicit state does not reach the Python backend.) Which sequence a request is of, and whether that
  starts or ends, it says itself: control inputs are not needed.
"""

import json
import time
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

if np.__version__.partition(".")[0] != "1":
    raise RuntimeError(f"Triton's Python backend needs numpy 1, found {np.__version__}: it is silently wrong otherwise")

NUMPY = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(bool)": np.bool_,
}


class TritonPythonModel:
    """One instance of a model."""

    def initialize(self, args):
        """Load the session and read the configuration."""
        config = json.loads(args["model_config"])
        parameters = {name: item["string_value"] for name, item in config.get("parameters", {}).items()}
        folder = Path(args["model_repository"]) / args["model_version"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(parameters.get("intra_op_thread_count", "1"))
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.x64quantprecision", "1")  # exact integer products without VNNI, too
        path = folder / (config.get("default_model_filename") or "model.onnx")
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._batched = config["max_batch_size"] > 0
        self._outputs = [output["name"] for output in config["output"]]
        # Output of a request to input of the next one of its sequence.
        self._state = dict(pair.split("=") for pair in parameters.get("state", "").split())
        self._zeros = {
            item.name: np.zeros([1, *(n if isinstance(n, int) else 0 for n in item.shape[1:])], NUMPY[item.type])
            for item in self._session.get_inputs()
            if item.name in self._state.values()
        }
        self._sequences = {}
        """What each sequence remembers, and when it last came; the longest silent one first."""
        idle_us = config.get("sequence_batching", {}).get("max_sequence_idle_microseconds", 0)
        self._idle_s = int(idle_us or 1_000_000) / 1e6
        self._stateful = "sequence_batching" in config
        self._inputs = [item["name"] for item in config["input"]]

    def _forget_idle(self):
        """Forget sequences that Triton has forgotten: it does not say so to the backend."""
        now = time.monotonic()
        while self._sequences:
            sequence, (_, seen) = next(iter(self._sequences.items()))
            if now - seen <= 2 * self._idle_s:
                return
            del self._sequences[sequence]

    def execute(self, requests):
        """Answer every request; those whose inputs have the same shapes share one run."""
        if self._sequences:
            self._forget_idle()
        responses = [None] * len(requests)
        together = self._batched and len(requests) > 1
        groups = {}
        for index, request in enumerate(requests):
            try:
                feed = self._feed(request)
            except ValueError as error:
                responses[index] = pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
                continue
            # Without batching every request is a run of its own.
            shapes = tuple(value.shape[1:] for value in feed.values()) if together else index
            groups.setdefault(shapes, []).append((index, request, feed))
        for group in groups.values():
            self._run(group, responses)
        return responses

    def _feed(self, request):
        feed = {name: _array(request, name) for name in self._inputs}
        if self._stateful:
            # The request knows its sequence; control inputs would say the same in tensors that cost more than that.
            sequence = request.correlation_id()
            if not sequence or request.flags() & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START:
                feed.update(self._zeros)
            elif (kept := self._sequences.get(sequence)) is not None:
                feed.update(kept[0])
            else:
                raise ValueError(
                    f"sequence {sequence} is not known here: it never started, has ended or was idle for too long, or "
                    "the server was restarted. Start it anew with sequence_start"
                )
        return feed

    def _run(self, group, responses):
        feeds = [feed for _, _, feed in group]
        # Outputs that nobody wants are neither computed nor copied.
        wanted = {name for _, request, _ in group for name in request.requested_output_names()}
        outputs = [name for name in self._outputs if name in wanted]
        joined = feeds[0] if len(feeds) == 1 else {n: np.concatenate([feed[n] for feed in feeds]) for n in feeds[0]}
        try:
            values = self._session.run([*outputs, *self._state], joined)
        except Exception as error:  # noqa: BLE001 - whatever the runtime says is the answer to these requests
            failed = pb_utils.TritonError(" ".join(str(error).split()))
            for index, _, _ in group:
                responses[index] = pb_utils.InferenceResponse(error=failed)
            return
        at = 0
        for index, request, feed in group:
            mine = values
            if len(group) > 1:
                rows = next(iter(feed.values())).shape[0]
                mine = [value[at : at + rows] for value in values]
                at += rows
            tensors = [pb_utils.Tensor(name, value) for name, value in zip(outputs, mine)]  # noqa: B905 - state
            responses[index] = pb_utils.InferenceResponse(output_tensors=tensors)
            if self._stateful:
                self._remember(request, mine[len(outputs) :])

    def _remember(self, request, values):
        sequence = request.correlation_id()  # 0 for Triton's warm-up requests, which are of none
        self._sequences.pop(sequence, None)
        if sequence and not request.flags() & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END:
            state = dict(zip(self._state.values(), values, strict=True))
            self._sequences[sequence] = (state, time.monotonic())


def _array(request, name):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    if tensor is None:
        raise ValueError(f"the request has no input '{name}'")
    return tensor.as_numpy()

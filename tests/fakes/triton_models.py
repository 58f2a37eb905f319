"""Small models for a Triton of the tests: one that echoes, one that is slow, one that fails."""

from __future__ import annotations

from pathlib import Path

_CODE = """\
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            {act}
            responses.append(pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("y", x)]))
        return responses
"""
_CONFIG = """\
backend: "python"
max_batch_size: 0
input [ { name: "x" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ -1 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
"""
_QUEUES = {
    "crowded": "dynamic_batching { default_queue_policy { max_queue_size: 2 } }\n",
    "queued": "dynamic_batching { default_queue_policy { allow_timeout_override: true } }\n",
}
_ACTS = {
    "echo": "pass",
    "slow": "time.sleep(float(x[0]))",
    "failing": "raise ValueError('this model always fails')",
    "crowded": "time.sleep(float(x[0]))",
    "queued": "time.sleep(float(x[0]))",
}
NAMES = tuple(_ACTS)


def write(repository: Path) -> Path:
    """Write the models into a folder: `x` (n,) float32 to `y`, the same; the slow ones take `x[0]` seconds."""
    for name, act in _ACTS.items():
        folder = repository / name
        (folder / "1").mkdir(parents=True)
        queue = _QUEUES.get(name, "")
        config = _CONFIG.replace("max_batch_size: 0", "max_batch_size: 1") if queue else _CONFIG
        (folder / "config.pbtxt").write_text(config + queue, "utf-8")
        (folder / "1" / "model.py").write_text(_CODE.format(act=act.replace("x[0]", "x.ravel()[0]")), "utf-8")
    return repository

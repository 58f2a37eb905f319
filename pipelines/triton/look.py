"""What a running Triton says of itself, and whether its answer is right."""

from __future__ import annotations

from typing import Any

from pipelines.triton import health
from pipelines.triton.connections import wire
from pipelines.triton.connections.failures import translate

_TIMEOUT_S = 2.0


def look(url: str) -> dict[str, Any]:
    """Health and statistics of a server.

    Returns:
        `well`: whether it answers the known question rightly; `models`: name, state, calls, failures, and the mean
        milliseconds that a call spent in the queue and in the model.

    Raises:
        ServiceError: It does not answer.
    """
    from tritonclient.utils import InferenceServerException

    client = wire.open_client(url, 0)
    try:
        index = client.get_model_repository_index(client_timeout=_TIMEOUT_S).models
        numbers = {item.name: item.inference_stats for item in client.get_inference_statistics().model_stats}
        try:
            well = health.known_answer(client, 7, _TIMEOUT_S)
        except InferenceServerException:
            well = False
        return {"well": well, "models": [_entry(item, numbers.get(item.name)) for item in index]}
    except InferenceServerException as error:
        status = str(error.status() or "").removeprefix("StatusCode.")
        raise translate(status, error.message(), url, "status") from error
    finally:
        client.close()


def _entry(item: Any, numbers: Any) -> dict[str, Any]:
    entry = {"name": item.name, "state": item.state or "not loaded", "calls": 0, "failures": 0}
    if numbers is None:
        return {**entry, "queue_ms": None, "compute_ms": None}
    calls = numbers.success.count
    compute_ns = numbers.compute_input.ns + numbers.compute_infer.ns + numbers.compute_output.ns
    return {
        **entry,
        "calls": calls,
        "failures": numbers.fail.count,
        "queue_ms": round(numbers.queue.ns / calls / 1e6, 3) if calls else None,
        "compute_ms": round(compute_ns / calls / 1e6, 3) if calls else None,
    }

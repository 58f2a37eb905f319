"""From gRPC's and Triton's errors to ours: what it means for the caller, and what mends it."""

from __future__ import annotations

import re

from pipelines.resilience import DeadlineExceededError, OverloadedError, ServiceError, ServiceFailedError

_WRONG_CALL = re.compile(
    r"unexpected inference (in|out)put|unexpected shape|data-type is|batch-size must|expected \d+ inputs|"
    r"must specify (the START flag|valid)|inputs but got"
)
"""What Triton says of a call that does not fit: over a stream its errors come without a code."""
_NO_MODEL = re.compile(r"unknown model|is not found")


class ModelFailedError(ServiceError):
    """The model raised an error: the same call would fail again, and it speaks against the endpoint."""

    counts = True


def translate(status: str, said: str, url: str, model: str) -> ServiceError:
    """Our error for one of a call to `model` at `url`.

    Args:
        status: gRPC's name of it; empty where Triton gives none.
        said: What Triton or gRPC says.
        url: The endpoint.
        model: The model that was called.
    """
    said = " ".join(said.split())
    where = f"Triton at {url}"
    if status == "DEADLINE_EXCEEDED":
        return DeadlineExceededError(
            f"{where} did not answer the call to '{model}' in time. Allow more time, send less at once, or see "
            "whether it hangs: amira triton status"
        )
    if "maximum queue size" in said or "timeout expired" in said.lower():
        return OverloadedError(f"the queue of '{model}' at {where} is full: {said}. Try again a little later")
    if status in ("UNAVAILABLE", "CANCELLED", "UNKNOWN"):
        return ServiceFailedError(_unreachable(where, model, said))
    if not status:
        status = "INVALID_ARGUMENT" if _WRONG_CALL.search(said) else "NOT_FOUND" if _NO_MODEL.search(said) else ""
    if status in ("INVALID_ARGUMENT", "OUT_OF_RANGE"):
        return ServiceError(f"the call does not fit model '{model}' at {where}: {said}. Its inputs: amira triton check")
    if status == "NOT_FOUND":
        return ServiceError(
            f"{where} has no model '{model}' that is loaded: {said}. Load it: amira triton start --model {model}"
        )
    if status == "RESOURCE_EXHAUSTED":
        return ServiceError(f"a message of the call to '{model}' is too large for {where}: {said}. Send less at once")
    if status == "UNIMPLEMENTED":
        return ServiceError(f"{url} speaks gRPC but is not a Triton: {said}. Name Triton's gRPC port")
    if "not healthy" in said:
        return ServiceFailedError(f"the process of model '{model}' at {where} is dead or hangs: {said}")
    return ModelFailedError(f"model '{model}' at {where} failed: {said or status}")


def _unreachable(where: str, model: str, said: str) -> str:
    text = f"{where} cannot be reached for '{model}', or broke the connection: {said}. See: amira triton status"
    if any(sign in said for sign in ("Socket closed", "SETTINGS frame", "http1", "HTTP/1")):
        text += ". If it never answered, it may speak something else: name Triton's gRPC port (8001 as a rule)"
    return text

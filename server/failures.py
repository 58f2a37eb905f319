"""The error codes of the protocol: whether a client may try again, and how the connection closes."""

from __future__ import annotations

from pipelines.errors import AmiraError
from server.messages import Error

POLICY, TOO_BIG, INTERNAL, RESTART, LATER = 1008, 1009, 1011, 1012, 1013

_RETRYABLE = {
    "too_far_ahead": LATER,
    "too_slow": LATER,
    "start_timeout": LATER,
    "idle_timeout": LATER,
    "session_too_long": LATER,
    "at_capacity": LATER,
    "backend_unavailable": LATER,
    "draining": RESTART,
    "internal": INTERNAL,
}
_RETRY_AFTER_MS = {"at_capacity": 1_000, "backend_unavailable": 1_000, "draining": 0}
_STATUS = {
    "unauthorized": 401,
    "message_too_large": 413,
    "at_capacity": 503,
    "draining": 503,
    "backend_unavailable": 503,
    "internal": 500,
}


class Refusal(AmiraError):  # noqa: N818 - an answer to the client, as the protocol has it
    """What a client cannot have, with its code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def retryable(self) -> bool:
        """Whether the same may work later or elsewhere."""
        return self.code in _RETRYABLE

    @property
    def http_status(self) -> int:
        """The status of an HTTP answer."""
        return _STATUS.get(self.code, 400)


def error_message(code: str, message: str) -> Error:
    """The message that says it."""
    return Error(
        code=code,  # type: ignore[arg-type]
        message=message,
        retryable=code in _RETRYABLE,
        retry_after_ms=_RETRY_AFTER_MS.get(code),
    )


def close_code(code: str) -> int:
    """The close code that goes with an error code."""
    return _RETRYABLE.get(code, TOO_BIG if code == "message_too_large" else POLICY)

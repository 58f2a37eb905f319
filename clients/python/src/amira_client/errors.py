"""What can go wrong with a session."""

from __future__ import annotations


class AmiraClientError(Exception):
    """Base class of all errors of this package."""


class ConnectionLostError(AmiraClientError):
    """The server cannot be reached, or the connection broke. `code` is the close code, where one came."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class HandshakeError(AmiraClientError):
    """The server refused the connection: a wrong address, path, origin or protocol version."""


class ServerError(AmiraClientError):
    """The server ended the session with an `error`; the codes are listed in the protocol."""

    def __init__(self, code: str, message: str, retryable: bool, retry_after_ms: int | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.retryable = retryable
        self.retry_after_ms = retry_after_ms

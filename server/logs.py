"""Logs as one JSON object a line on stderr, with the session and the trace that they belong to."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime

_FIELDS = ("session", "trace_id", "code", "outcome", "audio_ms", "peer")


class JsonFormatter(logging.Formatter):
    """Time, level, logger, message, and those of `_FIELDS` that a record has."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name in _FIELDS if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            line["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)


def set_up(level: str) -> None:
    """Send every logger's records to stderr; what libraries say below a warning stays out."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("server").setLevel(level.upper())
    logging.getLogger("picows").setLevel(logging.CRITICAL)  # a client's broken frames are its own affair

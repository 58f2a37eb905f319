"""Reading `config.pbtxt`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.errors import AmiraError


def parse(path: Path) -> Any:
    """A configuration as Triton's own message.

    Raises:
        AmiraError: It cannot be read, or is not one; the message has line and column.
    """
    from google.protobuf import text_format
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    try:
        return text_format.Parse(path.read_text("utf-8"), ModelConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise AmiraError(f"{path} is not a Triton configuration: {error}. Mend that line") from error

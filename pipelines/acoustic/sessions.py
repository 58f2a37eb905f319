"""ONNX Runtime sessions, opened the same way everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipelines.errors import AmiraError


def open_session(path: Path, threads: int) -> Any:
    """An inference session on the CPU with `threads` intra-operator threads, which do not spin when idle.

    Raises:
        AmiraError: The file is not there, or ONNX Runtime does not take it.
    """
    import onnxruntime

    if not path.is_file():
        raise AmiraError(f"model file {path} does not exist. Build it: amira models build")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if threads == 1 else "1")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise AmiraError(
            f"ONNX Runtime cannot load {path}: {error}. Build the models again: amira models build --force"
        ) from error


def bind_input(binding: Any, name: str, array: np.ndarray[Any, Any]) -> None:
    """Let a session read a C-contiguous array in place."""
    binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)


def bind_output(binding: Any, name: str, array: np.ndarray[Any, Any]) -> None:
    """Let a session write into a C-contiguous array of just the shape that it will give."""
    binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

"""ONNX Runtime sessions, opened the same way everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from pipelines.errors import AmiraError

EXACT_INT8 = "session.x64quantprecision"
"""ONNX Runtime's name of `SessionOptions.exact_int8`; it changes nothing where the CPU has VNNI."""


class SessionOptions(BaseModel):
    """How ONNX Runtime runs a graph; the threads are the pipeline's.

    Attributes:
        spin: Whether idle threads spin while they wait; `None` for only where there are several.
        optimization: How far graphs are rewritten when they are loaded.
        arena: Whether memory for intermediate values comes from an arena that is kept.
        memory_pattern: Whether the sizes of one run are planned for the next.
        exact_int8: Whether integer products are exact on CPUs without VNNI, too; `None` for yes, unless the form's
            weights cannot saturate. ONNX Runtime's quick way there adds pairs of products of 8 bits in 16, which
            saturate: values are wrong by half, words by points.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    spin: bool | None = None
    optimization: Literal["all", "extended", "basic", "disable_all"] = "all"
    arena: bool = True
    memory_pattern: bool = True
    exact_int8: bool | None = None


def open_session(path: Path, threads: int, chosen: SessionOptions | None = None) -> Any:
    """An inference session on the CPU with `threads` intra-operator threads.

    Raises:
        AmiraError: The file is not there, or ONNX Runtime does not take it.
    """
    import onnxruntime

    if not path.is_file():
        raise AmiraError(f"model file {path} does not exist. Build it: amira models build")
    chosen = chosen or SessionOptions()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = chosen.arena
    options.enable_mem_pattern = chosen.memory_pattern
    level = f"ORT_{'' if chosen.optimization == 'disable_all' else 'ENABLE_'}{chosen.optimization.upper()}"
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    spin = threads > 1 if chosen.spin is None else chosen.spin
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    options.add_session_config_entry(EXACT_INT8, str(int(chosen.exact_int8 is not False)))
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

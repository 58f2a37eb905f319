"""`peer/moonshine-cpp`: the package's own C++ engine with the same weights, a rival to beat.

The library is called through ctypes. The package's Python wrapper is not used: importing it is fine, but its
`transcribe` passes a wrong pointer type, and its `transcribe_wav` reads a file inside the timed call.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from kernels import cpu
from pipelines.contracts import ENGINE_STAGE, Hypotheses, Hypothesis, Recognizer, Trace
from pipelines.errors import AmiraError
from pipelines.models import source
from pipelines.registry import Context, Unavailable, Variant

_RUNTIME = "moonshine_cpp/libonnxruntime.so.1.22.1"
_ENGINE = "moonshine_cpp/libmoonshine.so"
_BASE_MODEL = 1


def _load_library() -> Any:
    # The engine finds its runtime among the libraries that are already loaded.
    ctypes.CDLL(str(source.package_file(_RUNTIME)), mode=ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(source.package_file(_ENGINE)))
    library.moonshine_load_model.argtypes = [ctypes.c_char_p] * 3 + [ctypes.c_int32]
    library.moonshine_load_model.restype = ctypes.c_int
    library.moonshine_transcribe.argtypes = [
        ctypes.c_int,
        ctypes.POINTER(ctypes.c_float),
        ctypes.c_size_t,
        ctypes.POINTER(ctypes.c_void_p),
    ]
    library.moonshine_transcribe.restype = ctypes.c_int
    library.moonshine_free_model.argtypes = [ctypes.c_int]
    library.moonshine_free_model.restype = None
    library.moonshine_free_text.argtypes = [ctypes.c_void_p]
    library.moonshine_free_text.restype = None
    return library


class _Engine:
    """Implements `pipelines.contracts.Recognizer`."""

    def __init__(self, library: Any, handle: int) -> None:
        self._library, self._handle = library, handle

    def warm_up(self) -> None:
        """Transcribe a second of silence."""
        self.recognize(bytes(32_000), Trace())

    def recognize(self, pcm: bytes | memoryview, trace: Trace) -> tuple[Hypotheses, int]:
        """See `pipelines.contracts.Recognizer`; the engine counts no decoder passes."""
        with trace.span("ingest"):
            samples = np.frombuffer(pcm, "<i2").astype(np.float32)
            samples /= 32_768
        with trace.span(ENGINE_STAGE):
            text = self._transcribe(samples)
        return (Hypothesis(text, (), float("nan")),), 0

    def _transcribe(self, samples: np.ndarray[Any, np.dtype[np.float32]]) -> str:
        text = ctypes.c_void_p()
        pointer = samples.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        code = self._library.moonshine_transcribe(self._handle, pointer, samples.size, ctypes.byref(text))
        if code != 0:
            raise AmiraError(f"moonshine-cpp's engine failed on {samples.size} samples with code {code}")
        try:
            return ctypes.string_at(text).decode("utf-8", "replace").strip() if text.value else ""
        finally:
            self._library.moonshine_free_text(text)


class MoonshineCpp(Variant):
    """`peer/moonshine-cpp`."""

    id = "peer/moonshine-cpp"
    summary = "the model package's own C++ engine, a rival with the same weights"

    @classmethod
    def available(cls) -> Unavailable | None:
        """The engine is built for Linux on x86-64 (and macOS, which we do not run), with AVX-512 throughout."""
        if not sys.platform.startswith("linux"):
            return Unavailable(f"its library is for Linux, this is {sys.platform}", "Run it on Linux.")
        if lacking := cpu.missing("avx512"):
            return Unavailable(
                f"its library is compiled for AVX-512 and does not ask; this CPU lacks {', '.join(lacking)}",
                "Use a CPU with AVX-512 (Intel Skylake-SP, AMD Zen 4 and later).",
            )
        try:
            source.package_file(_ENGINE)
        except AmiraError as error:
            return Unavailable("the package moonshine-cpp is not installed", str(error))
        return None

    @classmethod
    @contextmanager
    def _open_impl(cls, context: Context, options: Any) -> Iterator[Recognizer]:
        library = _load_library()
        paths = [str(source.verified(file)).encode() for file in (source.ENCODER, source.DECODER, source.TOKENIZER)]
        handle = library.moonshine_load_model(*paths, _BASE_MODEL)
        if handle == -1:
            raise AmiraError("moonshine-cpp's engine could not load its own model files. Reinstall it: make setup")
        try:
            yield _Engine(library, handle)
        finally:
            library.moonshine_free_model(handle)

"""Kernels as C functions that CPython calls without any wrapper, for the calls of a stream's every chunk.

A compiled loop with its arrays as arguments spends most of a short call in taking the arrays apart. Here everything
but what is new is known before: it lies in a tuple that the C function gets as its `self`, and the new arguments are
looked at in machine code. What is left is what any built-in function costs.

An argument of another type than the fast one, or one that the kernel does not take, goes to a Python function that
does the same the long way or says what is wrong. The GIL is held, since the calls are done within microseconds; so
two threads never write to one ring or to one reader's outputs at the same time, and arrays given as arguments stay.
The functions own references to everything that was bound.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from kernels.compile import compile_function

_METH_O, _METH_FASTCALL_KEYWORDS = 0x8, 0x82

MOST = 1 << 18
"""Elements of the input of `argmax` and `pcm16`, beyond which the work is long enough to let the GIL go."""


class _Definition(ctypes.Structure):
    """CPython's `PyMethodDef`."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("documentation", ctypes.c_char_p),
    )


def ring_writer(lanes: int, ring: Any, cursor: Any, otherwise: Callable[[Any], None]) -> Callable[[Any], None]:
    """A function of a PCM16 `bytes` that writes it to `ring` at `cursor`.

    Args:
        lanes: Of the kernel.
        ring: float32 (capacity,), as `kernels.pcm_ring` takes it.
        cursor: int64 (1,): where the next sample goes, moved by each call.
        otherwise: Does the same for what is not `bytes` or does not fit, or raises.
    """
    return _method(_ring_function(lanes), _METH_O, bytes, otherwise, ring, cursor)


def greedy_reader(
    lanes: int, blank: Any, carry: Any, tokens: Any, confidences: Any, frames: Any, score: Any,
    otherwise: Callable[[Any], int],
) -> Callable[[Any], int]:  # fmt: skip
    """A function of float32 log-probabilities (T, V) that decodes them greedily and returns how many tokens it found.

    The outputs are as `kernels.ctc_greedy` takes them; `blank` is int64 (1,), `score` float64 (1,), to which each
    frame's largest is added. `otherwise` takes an array that is not one of these, or has more frames than the outputs
    have room for.
    """
    arrays = (blank, carry, tokens, confidences, frames, score)
    return _method(_greedy_function(lanes), _METH_O, np.ndarray, otherwise, *arrays)


def mel_writer(
    lanes: int, weights: Any, starts: Any, ends: Any, limits: Any, otherwise: Callable[[Any, Any], int]
) -> Callable[[Any, Any], int]:
    """A function of power spectra (frames, bins) and `out` (frames, mels) that writes log-mel energies.

    It returns the number of frames. `weights`, `starts` and `ends` are as `kernels.log_mel` takes them and were looked
    at before; `limits` is float32 (2,): the guard and the floor. `otherwise` takes what does not fit.
    """
    needed = np.full(1, ends.max(initial=0), np.int64)
    return _method(
        _mel_function(lanes), _METH_FASTCALL_KEYWORDS, np.ndarray, otherwise, weights, starts, ends, limits, needed
    )  # fmt: skip


def argmax(lanes: int, otherwise: Callable[..., None]) -> Any:
    """`KernelSet.argmax` without a look at its arrays in Python; `otherwise` is the long way."""
    return _method(_argmax_function(lanes), _METH_FASTCALL_KEYWORDS, np.ndarray, otherwise)


def pcm16(lanes: int, otherwise: Callable[..., None]) -> Any:
    """`KernelSet.pcm16_to_float32` of `bytes`, in the same way."""
    return _method(_pcm16_function(lanes), _METH_FASTCALL_KEYWORDS, bytes, otherwise, np.ndarray)


def prepare(lanes: int) -> None:
    """Compile everything, or take it from the cache, so that no first request pays for it."""
    for make in (_ring_function, _greedy_function, _mel_function, _argmax_function, _pcm16_function):
        make(lanes)


def _method(
    compiled: Any, flags: int, expected: type, otherwise: Callable[..., Any], *arrays: Any
) -> Callable[..., Any]:
    """A built-in function; its `self` is `(expected, otherwise, *arrays, what must live as long)`."""
    definition = _Definition(b"kernel", compiled.address, flags, None)
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.argtypes, make.restype = [ctypes.POINTER(_Definition), ctypes.py_object, ctypes.c_void_p], ctypes.py_object
    held = (expected, otherwise, *arrays, definition, compiled)
    function: Callable[..., Any] = make(ctypes.byref(definition), held, None)
    return function


@cache
def _ring_function(lanes: int) -> Any:
    from kernels import simd, simd_rows

    def write(self, data):  # type: ignore[no-untyped-def]
        simd.target(lanes)
        if simd.type_of(data) != simd.tuple_item(self, 0):
            return simd.call_with(simd.tuple_item(self, 1), data)
        ring, cursor = (
            simd.array_of(simd.tuple_item(self, 2), "f", 1),
            simd.array_of(simd.tuple_item(self, 3), "l", 1),
        )
        pcm = simd.bytes_of(data)
        count, position = pcm.size // 2, cursor[0]
        if pcm.size % 2 or position < 0 or position >= ring.size or count > ring.size or not simd.usable(ring, True):
            return simd.call_with(simd.tuple_item(self, 1), data)
        cursor[0] = simd_rows.ring_run(pcm, ring, position, count, lanes)
        return simd.none()

    return compile_function(write, 2)


@cache
def _greedy_function(lanes: int) -> Any:
    from kernels import simd, simd_ctc

    def read(self, found):  # type: ignore[no-untyped-def]
        simd.target(lanes)
        if simd.type_of(found) != simd.tuple_item(self, 0) or not simd.is_array_of(found, "f", 2):
            return simd.call_with(simd.tuple_item(self, 1), found)
        log_probs = simd.array_of(found, "f", 2)
        blank = simd.array_of(simd.tuple_item(self, 2), "l", 1)[0]
        carry, tokens = (
            simd.array_of(simd.tuple_item(self, 3), "l", 1),
            simd.array_of(simd.tuple_item(self, 4), "l", 1),
        )
        confidences, frames = (
            simd.array_of(simd.tuple_item(self, 5), "f", 1),
            simd.array_of(simd.tuple_item(self, 6), "l", 2),
        )
        score = simd.array_of(simd.tuple_item(self, 7), "d", 1)
        count, labels = log_probs.shape
        if blank >= labels or count > tokens.size or not simd.usable(log_probs, False):
            return simd.call_with(simd.tuple_item(self, 1), found)
        return simd.new_int(
            simd_ctc.collapse(log_probs, count, labels, blank, carry, tokens, confidences, frames, score, lanes)
        )

    return compile_function(read, 2)


@cache
def _mel_function(lanes: int) -> Any:
    from kernels import simd, simd_mel

    def write(self, arguments, count, names):  # type: ignore[no-untyped-def]
        simd.target(lanes)
        if count != 2:
            return simd.call_with_all(simd.tuple_item(self, 1), arguments, count, names)
        spectra, features = simd.argument(arguments, 0), simd.argument(arguments, 1)
        expected = simd.tuple_item(self, 0)
        if simd.type_of(spectra) != expected or simd.type_of(features) != expected:
            return simd.call_with_all(simd.tuple_item(self, 1), arguments, count, names)
        if not (simd.is_array_of(spectra, "f", 2) and simd.is_array_of(features, "f", 2)):
            return simd.call_with_all(simd.tuple_item(self, 1), arguments, count, names)
        power, out = simd.array_of(spectra, "f", 2), simd.array_of(features, "f", 2)
        weights, starts, ends = (
            simd.array_of(simd.tuple_item(self, 2), "f", 1),
            simd.array_of(simd.tuple_item(self, 3), "l", 1),
            simd.array_of(simd.tuple_item(self, 4), "l", 1),
        )
        limits, needed = (
            simd.array_of(simd.tuple_item(self, 5), "f", 1),
            simd.array_of(simd.tuple_item(self, 6), "l", 1)[0],
        )
        frames, bins = power.shape
        if out.shape != (frames, starts.size) or needed > bins:
            return simd.call_with_all(simd.tuple_item(self, 1), arguments, count, names)
        if not (simd.usable(power, False) and simd.usable(out, True)):
            return simd.call_with_all(simd.tuple_item(self, 1), arguments, count, names)
        simd_mel.rows(power, weights, starts, ends, limits[0], limits[1], out, lanes)
        return simd.new_int(frames)

    return compile_function(write, 4)


@cache
def _argmax_function(lanes: int) -> Any:
    from kernels import simd, simd_argmax

    def write(self, arguments, count, names):  # type: ignore[no-untyped-def]
        simd.target(lanes)
        if count != 2 or names != 0:
            return simd.call_with_all(simd.tuple_item(self, 1), arguments, count, names)
        rows_of, labels = simd.argument(arguments, 0), simd.argument(arguments, 1)
        expected = simd.tuple_item(self, 0)
        if simd.type_of(rows_of) != expected or simd.type_of(labels) != expected:
            return simd.call_with_all(simd.tuple_item(self, 1), arguments, count, names)
        if not (simd.is_array_of(rows_of, "f", 2) and simd.is_array_of(labels, "l", 1)):
            return simd.call_with_all(simd.tuple_item(self, 1), arguments, count, names)
        x, out = simd.array_of(rows_of, "f", 2), simd.array_of(labels, "l", 1)
        rows, n = x.shape
        if n == 0 or out.size != rows or x.size > MOST or not (simd.usable(x, False) and simd.usable(out, True)):
            return simd.call_with_all(simd.tuple_item(self, 1), arguments, count, names)
        simd_argmax.all_rows(x, rows, n, out, lanes)
        return simd.none()

    return compile_function(write, 4)


@cache
def _pcm16_function(lanes: int) -> Any:
    from kernels import simd, simd_rows

    def write(self, arguments, count, names):  # type: ignore[no-untyped-def]
        simd.target(lanes)
        if count != 2 or names != 0:
            return simd.call_with_all(simd.tuple_item(self, 1), arguments, count, names)
        data, samples = simd.argument(arguments, 0), simd.argument(arguments, 1)
        if simd.type_of(data) != simd.tuple_item(self, 0) or simd.type_of(samples) != simd.tuple_item(self, 2):
            return simd.call_with_all(simd.tuple_item(self, 1), arguments, count, names)
        if not simd.is_array_of(samples, "f", 1):
            return simd.call_with_all(simd.tuple_item(self, 1), arguments, count, names)
        pcm, out = simd.bytes_of(data), simd.array_of(samples, "f", 1)
        if pcm.size != 2 * out.size or out.size > MOST or not simd.usable(out, True):
            return simd.call_with_all(simd.tuple_item(self, 1), arguments, count, names)
        simd_rows.pcm_run(pcm, 0, out, 0, out.size, lanes)
        return simd.none()

    return compile_function(write, 4)

"""What experiment 003 times: every implementation of the kernels, NumPy and Python beside them, as `case|who|how`."""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Callable, Mapping
from itertools import groupby
from types import SimpleNamespace
from typing import Any

import numpy as np
from kernel_timing import Call, Effort, Times, driven, interleaved, nothing, python_call

from kernels import direct
from kernels.dispatch import OPERATIONS, Implementation, Operation
from kernels.drive import driver, memcpy_loop
from kernels.features import LogMel, MelConfig
from kernels.kernel_set import KernelSet
from kernels.limits import read_loop
from kernels.stream_calls import LANES
from kernels.workloads import SIZES, aligned, workload
from pipelines.decode.greedy import CtcGreedyDecoder

CHUNK = 2_560
"""Samples in a chunk of 160 ms."""
CHUNK_FRAMES = 7
"""Frames of 24 ms that end in it."""

Sets = Mapping[Implementation, KernelSet]


def target_calls(sets: Sets) -> dict[str, Call]:
    """What the targets are about."""
    calls: dict[str, Call] = {}
    rng = np.random.default_rng(0)
    for samples in (1_600, 480_000):
        case = f"pcm16 {samples}"
        data, out = rng.integers(-32768, 32768, samples).astype("<i2").tobytes(), _zeros(samples)
        _add(calls, case, "pcm16", (data, out), sets, "pcm16_to_float32")
        pcm = np.frombuffer(data, "<i2")
        calls[f"{case}|numpy|call"] = python_call(np.multiply, pcm, np.float32(1 / 32768), out)
        _add_memcpy(calls, case, samples)
    for rows, case in ((1, "argmax 1024"), (64, "argmax 64 x 1024 (L2)")):
        x, found = aligned(rng.standard_normal((rows, 1_024), np.float32)), np.zeros(rows, np.int64)
        _add(calls, case, "argmax", (x, found), sets)
        calls[f"{case}|numpy|call"] = python_call(np.argmax, x, 1, found)
        if rows == 1:
            calls[f"{case}|numpy|method"] = python_call(x.argmax, 1, found)
            _add_ways(calls, sets, case, x, found)
    tiny, one = np.zeros((1, 1), np.float32), np.zeros(1, np.int64)
    calls["argmax 1|numpy|call"] = python_call(np.argmax, tiny, 1, one)
    calls["argmax 1|numpy|method"] = python_call(tiny.argmax, 1, one)
    x, turned = aligned(rng.standard_normal((1, 512, 1_504), np.float32)), _zeros(1, 1_504, 512)
    _add(calls, "transpose 512 x 1504", "transpose", (x, turned), sets)
    calls["transpose 512 x 1504|numpy|call"] = python_call(np.copyto, turned, x.transpose(0, 2, 1))
    _add_memcpy(calls, "transpose 512 x 1504", x.size)
    _add_ctc(calls, sets)
    _add_chunk(calls, sets)
    return calls


def _zeros(*shape: int) -> Any:
    return aligned(np.zeros(shape, np.float32))


def _add(
    calls: dict[str, Call],
    case: str,
    operation: Operation,
    arguments: tuple[Any, ...],
    sets: Sets,
    method: str = "",
) -> None:
    """The kernel by itself and with its Python call, for every compiled implementation."""
    for name, kernels in sets.items():
        calls[f"{case}|{name}|kernel"] = driven(driver(kernels.loops[operation]), *arguments)
        calls[f"{case}|{name}|call"] = python_call(getattr(kernels, method or operation), *arguments)


def _add_memcpy(calls: dict[str, Call], case: str, count: int) -> None:
    calls[f"{case}|memcpy|kernel"] = driven(driver(memcpy_loop()), _zeros(count), _zeros(count))


def _add_ways(calls: dict[str, Call], sets: Sets, case: str, x: Any, found: Any) -> None:
    """The same kernel of the best implementation by every way from Python to machine code."""
    import cffi
    import numba

    from kernels import simd, simd_argmax

    kernels = _best(sets)
    loop, lanes, labels = kernels.loops["argmax"], LANES[kernels.implementation], x.shape[1]
    calls[f"{case}|numba's dispatcher|way"] = python_call(loop.dispatcher, x, found)
    calls[f"{case}|entry point|way"] = python_call(loop.call, x, found)
    calls[f"{case}|entry point and checks in Python|way"] = python_call(KernelSet.argmax, kernels, x, found)

    def by_address(x, out, n):  # type: ignore[no-untyped-def]
        simd.target(lanes)
        simd_argmax.all_rows(numba.carray(x, (1, n)), 1, n, numba.carray(out, (1,)), lanes)
        return 0

    compiled = numba.cfunc("int64(CPointer(float32), CPointer(int64), int64)")(by_address)
    addresses = x.ctypes.data, found.ctypes.data, labels
    by_ctypes = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(compiled.address)
    by_cffi = cffi.FFI().cast("int64_t(*)(uintptr_t, uintptr_t, int64_t)", compiled.address)
    calls[f"{case}|ctypes, addresses known|way"] = python_call(by_ctypes, *addresses)
    calls[f"{case}|cffi, addresses known|way"] = python_call(by_cffi, *addresses)
    calls[f"{case}|built-in function|way"] = python_call(direct.argmax(lanes, kernels.argmax), x, found)
    for call in (by_ctypes, by_cffi):
        found[:] = -1
        call(*addresses)
        if found[0] != x.argmax():
            raise RuntimeError("the kernel called by address found another label than NumPy")


def _best(sets: Sets) -> KernelSet:
    return list(sets.values())[-1]


def ctc_arguments(frames: int, labels: int) -> tuple[Any, ...]:
    """A path as a CTC model gives it: three blanks in four frames, tokens one or two frames long."""
    rng = np.random.default_rng(1)
    log_probs = aligned(rng.standard_normal((frames, labels), np.float32) - 8)
    path = np.where(rng.random(frames) < 0.25, rng.integers(1, labels, frames), 0)
    log_probs[np.arange(frames), path] = 0
    counts = np.zeros(frames, np.int64)
    return log_probs, 0, np.zeros(1, np.int64), counts, _zeros(frames), np.zeros((frames, 2), np.int64)


def python_tokens(log_probs: Any) -> list[int]:
    """NumPy's argmax, then the plain loop: tokens alone."""
    tokens, previous = [], 0
    for label in log_probs.argmax(axis=1).tolist():
        if label not in (previous, 0):
            tokens.append(label)
        previous = label
    return tokens


def python_groups(log_probs: Any) -> list[int]:
    """The same as short as Python knows it."""
    return [label for label, _ in groupby(log_probs.argmax(axis=1).tolist()) if label]


def python_greedy(log_probs: Any) -> list[tuple[int, float, int, int]]:
    """NumPy's argmax, then a loop that gives what the kernel gives: token, confidence, first and last frame."""
    labels = log_probs.argmax(axis=1)
    best = log_probs[np.arange(len(labels)), labels].tolist()
    found: list[list[Any]] = []
    previous = 0
    for t, (label, value) in enumerate(zip(labels.tolist(), best, strict=True)):
        if label:
            if label != previous:
                found.append([label, value, t, t])
            else:
                run = found[-1]
                run[3] = t
                if value > run[1]:
                    run[1] = value
        previous = label
    return [(label, math.exp(value), first, last) for label, value, first, last in found]


def _add_ctc(calls: dict[str, Call], sets: Sets) -> None:
    arguments = ctc_arguments(500, 512)
    _add(calls, "ctc greedy 500 x 512", "ctc_greedy", arguments, sets)
    _add(calls, "argmax 500 x 512", "argmax", (arguments[0], np.zeros(500, np.int64)), sets)
    drive, largest = driver(read_loop(8 if "avx512" not in sets else 16)), _zeros(1)
    calls["read 500 x 512|simd|kernel"] = driven(drive, arguments[0].reshape(-1), largest)
    reader = _best(sets).greedy_reader(0, 500)
    calls["ctc greedy 500 x 512|bound|call"] = python_call(reader.read, arguments[0])
    for name, function in (("tokens", python_tokens), ("groups", python_groups), ("all", python_greedy)):
        calls[f"ctc greedy 500 x 512|numpy + python, {name}|call"] = python_call(function, arguments[0])


def _add_chunk(calls: dict[str, Call], sets: Sets) -> None:
    """The kernels of one chunk of a stream: into the ring, then the greedy pass; and those of its features.

    The ring is as long as a chunk, so that kernel and call write to the same memory: in a longer one the call goes on
    to memory that is not in L1, while a kernel by itself is called with one and the same place. For the same reason
    the kernels of a chunk are driven one behind the other as well: together they may not fit into L1.
    """
    kernels = _best(sets)
    pcm, ring = bytes(2 * CHUNK), _zeros(CHUNK)
    _add(calls, "chunk ring", "pcm16_ring", (pcm, ring, 0), sets, "pcm16_into_ring")
    writer = kernels.ring_writer(ring)
    calls["chunk ring|bound|call"] = python_call(writer.write, pcm)
    calls["nothing|built-in that gives True|call"] = python_call(callable, pcm)
    calls["nothing|built-in that gives a number|call"] = python_call(len, pcm)
    calls["nothing|loop|call"] = nothing
    extract = LogMel(MelConfig(), kernels.mel_writer)
    frames = extract.frames(CHUNK)
    power, out = _zeros(frames, 257), _zeros(frames, 80)
    bank = extract.bank
    mel = (power, bank.weights, bank.starts, bank.ends, 0.0, 1e-7, out)
    _add(calls, "chunk log-mel", "log_mel", mel, sets)
    write_mel = kernels.mel_writer(bank.weights, bank.starts, bank.ends, 0.0, 1e-7)
    for labels, end in ((512, ""), (29, " of 29")):
        chunk = ctc_arguments(CHUNK_FRAMES, labels)
        _add(calls, f"chunk greedy{end}", "ctc_greedy", chunk, sets)
        reader = kernels.greedy_reader(0, CHUNK_FRAMES)
        calls[f"chunk greedy{end}|bound|call"] = python_call(reader.read, chunk[0])
        calls[f"chunk decoder{end}|stream|call"] = python_call(_Decoder(kernels, labels).push, chunk[0])
        loops = kernels.loops
        together = driver(loops["pcm16_ring"], loops["ctc_greedy"])
        calls[f"chunk both{end}|{kernels.implementation}|kernel"] = driven(together, pcm, ring, 0, *chunk)
        calls[f"chunk both{end}|bound|call"] = _chunk_calls(writer.write, pcm, reader.read, chunk[0])
        if not end:
            together = driver(loops["pcm16_ring"], loops["log_mel"], loops["ctc_greedy"])
            calls[f"chunk all|{kernels.implementation}|kernel"] = driven(together, pcm, ring, 0, *mel, *chunk)
            calls["chunk all|bound|call"] = _chunk_calls(
                writer.write, pcm, reader.read, chunk[0], write_mel, power, out
            )
    audio = np.zeros(CHUNK, np.float32)
    calls["chunk features, FFT and all|numpy|call"] = python_call(extract, audio, out)


class _Labels(list[str]):
    """A vocabulary that writes nothing: what is timed is the decoder."""

    blank = 0

    def text(self, tokens: list[int]) -> str:
        return ""


class _Decoder:
    """A decoder's stream that is opened anew now and then, so that what it has heard does not grow for ever."""

    def __init__(self, kernels: KernelSet, labels: int) -> None:
        model: Any = SimpleNamespace(vocabulary=_Labels([""] * labels), frame_shift_s=0.02)
        self._decoder = CtcGreedyDecoder(model, kernels)
        self._left = 0

    def push(self, log_probs: Any) -> None:
        if not self._left:
            self._stream, self._left = self._decoder.stream(), 500
        self._left -= 1
        self._stream.push(log_probs)


def _chunk_calls(
    write: Callable[[Any], int],
    pcm: bytes,
    read: Callable[[Any], int],
    log_probs: Any,
    write_mel: Callable[[Any, Any], int] | None = None,
    power: Any = None,
    mel: Any = None,
) -> Call:
    """The bound calls of a chunk one behind the other, without or with its log-mel energies."""

    def both(times: int) -> None:
        for _ in range(times):
            write(pcm)
            read(log_probs)

    if write_mel is None:
        return both

    def all_of_them(times: int) -> None:
        for _ in range(times):
            write(pcm)
            write_mel(power, mel)
            read(log_probs)

    return all_of_them


def sweep(sets: Sets, effort: Effort) -> Times:
    """Every operation, implementation and size by itself, beside a memcpy that moves as many bytes."""
    times: Times = {}
    numpy_set = KernelSet("numpy")
    for size, elements in SIZES.items():
        for operation in OPERATIONS:
            work = workload(operation, elements)
            case = f"{operation} {size}"
            calls: dict[str, Call] = {}
            for name, kernels in sets.items():
                calls[f"{case}|{name}|kernel"] = driven(driver(kernels.loops[operation]), *work.arguments)
            calls[f"{case}|numpy|call"] = python_call(numpy_set.loops[operation].call, *work.arguments)
            _add_memcpy(calls, case, work.memcpy_bytes // 4)
            times |= interleaved(calls, effort.sweep_rounds, effort.sample_ns)
            print(case, file=sys.stderr)
    return times

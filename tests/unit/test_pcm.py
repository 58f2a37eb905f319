"""PCM16 conversion against a naive oracle, for every implementation."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import pcm

IMPLEMENTATIONS = {"numpy": pcm.numpy_kernel(), "scalar": pcm.scalar_kernel()}


def oracle(data: bytes) -> list[float]:
    return [sample / 32768 for (sample,) in struct.iter_unpack("<h", data)]


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@given(samples=st.lists(st.integers(-32768, 32767), max_size=300))
def test_equals_the_oracle_exactly(name: str, samples: list[int]) -> None:
    data = struct.pack(f"<{len(samples)}h", *samples)
    out = np.full(len(samples), np.nan, np.float32)
    IMPLEMENTATIONS[name](pcm.as_int16(data), out)
    assert out.tolist() == oracle(data)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_takes_read_only_and_writable_input(name: str) -> None:
    data = np.array([-32768, 0, 1, 32767], "<i2")
    out = np.empty(4, np.float32)
    IMPLEMENTATIONS[name](data, out)
    assert out.tolist() == [-1.0, 0.0, 1 / 32768, 32767 / 32768]
    assert data.flags.writeable


def test_odd_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match="even number of bytes, got 3"):
        pcm.as_int16(b"abc")


def test_memoryview_of_another_item_size_counts_bytes() -> None:
    view = memoryview(np.array([1, -2], "<i2"))
    assert pcm.as_int16(view).tolist() == [1, -2]


@pytest.mark.parametrize(
    ("samples", "out"),
    [
        (np.zeros(3, np.int16), np.zeros(2, np.float32)),
        (np.zeros(3, np.int16), np.zeros(3, np.float64)),
        (np.zeros(3, np.int32), np.zeros(3, np.float32)),
        (np.zeros(6, np.int16)[::2], np.zeros(3, np.float32)),
        (np.zeros(3, np.int16), np.zeros(6, np.float32)[::2]),
    ],
)
def test_wrong_arrays_are_refused(samples: np.ndarray, out: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must be contiguous"):
        pcm.check(samples, out)


def test_scalar_is_really_scalar() -> None:
    assembly = "".join(IMPLEMENTATIONS["scalar"].loop.inspect_asm().values())  # type: ignore[attr-defined]
    assert "vcvtsi2ss" in assembly or "cvtsi2ss" in assembly
    for packed in ("cvtdq2ps", "mulps"):
        assert packed not in assembly

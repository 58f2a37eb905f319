"""PCM16 and G.711 to float32, into an array and into a ring, against naive oracles, for every implementation."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import g711, pcm
from kernels.dispatch import Implementation
from tests.unit.kernel_sets import every_implementation, examples, kernel_set

samples_of_16_bits = st.lists(st.integers(-32768, 32767), max_size=100)


def pcm_oracle(data: bytes) -> list[float]:
    return [sample / 32768 for (sample,) in struct.iter_unpack("<h", data)]


@every_implementation
@examples
@given(samples=samples_of_16_bits)
def test_pcm16_equals_the_oracle_exactly(name: Implementation, samples: list[int]) -> None:
    data = struct.pack(f"<{len(samples)}h", *samples)
    out = np.full(len(samples), np.nan, np.float32)
    kernel_set(name).pcm16_to_float32(data, out)
    assert out.tolist() == pcm_oracle(data)


@every_implementation
def test_pcm16_of_every_sample_value(name: Implementation) -> None:
    samples = np.arange(-32768, 32768).astype("<i2")
    out = np.empty(samples.size, np.float32)
    kernel_set(name).pcm16_to_float32(samples.tobytes(), out)
    np.testing.assert_array_equal(out, samples / np.float32(32768))


@every_implementation
@examples
@given(samples=st.lists(st.integers(-32768, 32767), max_size=60), spare=st.integers(0, 40), data=st.data())
def test_the_ring_wraps_where_the_oracle_does(name: Implementation, samples: list[int], spare: int, data) -> None:
    capacity = max(1, len(samples) + spare)
    position = data.draw(st.integers(0, capacity - 1))
    expected = [7.0] * capacity
    for i, sample in enumerate(samples):
        expected[(position + i) % capacity] = sample / 32768
    ring = np.full(capacity, 7, np.float32)
    after = kernel_set(name).pcm16_into_ring(struct.pack(f"<{len(samples)}h", *samples), ring, position)
    assert after == (position + len(samples)) % capacity
    assert ring.tolist() == expected


@every_implementation
@pytest.mark.parametrize(
    ("count", "position", "message"),
    [(5, 0, "5 samples do not fit into a ring of 4"), (1, 4, r"position must be in \[0, 4\)"), (1, -1, "position")],
)
def test_what_does_not_fit_the_ring_is_refused(name: Implementation, count: int, position: int, message: str) -> None:
    ring = np.full(4, 7, np.float32)
    with pytest.raises(ValueError, match=message):
        kernel_set(name).pcm16_into_ring(bytes(2 * count), ring, position)
    assert (ring == 7).all()


@every_implementation
@examples
@given(codes=st.binary(max_size=70))
def test_g711_equals_its_table(name: Implementation, codes: bytes) -> None:
    out = np.empty(len(codes), np.float32)
    kernel_set(name).mulaw_to_float32(codes, out)
    assert out.tolist() == [g711.mulaw_sample(code) / 32768 for code in codes]
    kernel_set(name).alaw_to_float32(codes, out)
    assert out.tolist() == [g711.alaw_sample(code) / 32768 for code in codes]


@every_implementation
def test_g711_of_every_code(name: Implementation) -> None:
    out = np.empty(256, np.float32)
    kernel_set(name).mulaw_to_float32(bytes(range(256)), out)
    np.testing.assert_array_equal(out, g711.table("mulaw"))
    kernel_set(name).alaw_to_float32(bytes(range(256)), out)
    np.testing.assert_array_equal(out, g711.table("alaw"))


def test_the_laws_at_the_points_that_the_standard_names() -> None:
    assert [g711.mulaw_sample(code) for code in (0x00, 0x80, 0x7F, 0xFF)] == [-32124, 32124, 0, 0]
    assert [g711.alaw_sample(code) for code in (0x2A, 0xAA, 0x55, 0xD5)] == [-32256, 32256, -8, 8]
    for sample in (g711.mulaw_sample, g711.alaw_sample):
        assert sorted({abs(sample(code)) for code in range(128)}) == sorted({sample(code + 128) for code in range(128)})


@every_implementation
def test_any_contiguous_buffer_is_taken_at_any_address(name: Implementation) -> None:
    expected = [-1.0, 0.0, 1 / 32768, 32767 / 32768] * 9
    samples = np.array([-32768, 0, 1, 32767] * 9, "<i2")
    shifted = bytearray(b"x" + samples.tobytes())
    readonly = samples.copy()
    readonly.flags.writeable = False
    for data in (memoryview(samples), memoryview(readonly), bytearray(samples), memoryview(shifted)[1:]):
        unaligned = np.zeros(4 * 36 + 1, np.uint8)[1:].view(np.float32)
        kernel_set(name).pcm16_to_float32(data, unaligned)  # type: ignore[arg-type]
        assert unaligned.tolist() == expected


@every_implementation
def test_odd_bytes_are_refused(name: Implementation) -> None:
    with pytest.raises(ValueError, match="even number of bytes, got 3"):
        kernel_set(name).pcm16_to_float32(b"abc", np.empty(1, np.float32))
    with pytest.raises(ValueError, match="even number of bytes, got 3"):
        kernel_set(name).pcm16_into_ring(b"abc", np.empty(4, np.float32), 0)


def test_a_strided_buffer_is_refused() -> None:
    with pytest.raises(ValueError, match="one contiguous buffer"):
        pcm.as_bytes(memoryview(np.zeros(8, np.int16))[::2])

"""Arrays that no kernel takes, and unusual ones that every kernel takes: the same answer from all of them."""

from typing import Any

import numpy as np
import pytest

from kernels.dispatch import OPERATIONS, TABLE, Implementation, Operation
from kernels.workloads import workload
from tests.unit.kernel_sets import every_implementation, kernel_set

METHODS = {
    "pcm16": "pcm16_to_float32",
    "pcm16_ring": "pcm16_into_ring",
    "mulaw": "mulaw_to_float32",
    "alaw": "alaw_to_float32",
}


def call(name: Implementation, operation: Operation, arguments: list[Any]) -> Any:
    return getattr(kernel_set(name), METHODS.get(operation, operation))(*arguments)


def strided(array: np.ndarray) -> np.ndarray:
    return np.repeat(array, 2, axis=-1)[..., ::2]


def read_only(array: np.ndarray) -> np.ndarray:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def unaligned(array: np.ndarray) -> np.ndarray:
    copy = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def same_size_other_kind(array: np.ndarray) -> np.ndarray:
    return array.view({"f": np.dtype(f"i{array.itemsize}"), "i": np.dtype(f"f{array.itemsize}")}[array.dtype.kind])


BAD = {
    "strided": strided,
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "another item size": lambda array: array.astype(np.float16),
    "the same item size, another kind": same_size_other_kind,
    "one dimension more": lambda array: array[None],
    "no dimension": lambda array: array.reshape(-1)[0:1].reshape(()),
}
SMALL = 5_000


def array_arguments(operation: Operation) -> list[int]:
    return [i for i, value in enumerate(workload(operation, SMALL).arguments) if isinstance(value, np.ndarray)]


def copied(operation: Operation) -> list[Any]:
    return [value.copy() if isinstance(value, np.ndarray) else value for value in workload(operation, SMALL).arguments]


@every_implementation
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("fault", BAD)
def test_a_bad_array_is_refused_with_the_same_words(name: Implementation, operation: Operation, fault: str) -> None:
    for number in array_arguments(operation):
        arguments = copied(operation)
        if fault == "strided" and arguments[number].size == 1:
            continue  # one element is contiguous whatever its stride
        arguments[number] = BAD[fault](arguments[number])
        with pytest.raises(ValueError, match=r"must be|fit") as caught:
            call(name, operation, arguments)
        with pytest.raises(ValueError, match=r"must be|fit") as expected:
            TABLE[operation].refuse(*arguments)
        assert str(caught.value) == str(expected.value)


@every_implementation
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_read_only_output_is_refused_and_left_alone(name: Implementation, operation: Operation) -> None:
    for number in workload(operation, SMALL).outputs:
        arguments = copied(operation)
        arguments[number] = read_only(arguments[number])
        before = arguments[number].copy()
        with pytest.raises(ValueError, match="must be"):
            call(name, operation, arguments)
        np.testing.assert_array_equal(arguments[number], before)


@every_implementation
@pytest.mark.parametrize("operation", OPERATIONS)
def test_read_only_inputs_and_unaligned_arrays_are_taken(name: Implementation, operation: Operation) -> None:
    outputs = workload(operation, SMALL).outputs
    plain = copied(operation)
    expected = call(name, operation, plain)
    unusual = [
        value
        if not isinstance(value, np.ndarray)
        else unaligned(value)
        if i in outputs
        else read_only(unaligned(value))
        for i, value in enumerate(copied(operation))
    ]
    assert call(name, operation, unusual) == expected
    for number in outputs:
        np.testing.assert_array_equal(unusual[number], plain[number])


@every_implementation
@pytest.mark.parametrize("operation", OPERATIONS)
def test_nothing_behind_an_output_is_written(name: Implementation, operation: Operation) -> None:
    for number in workload(operation, SMALL).outputs:
        arguments = copied(operation)
        output = arguments[number]
        fence = np.full(output.nbytes + 128, 0xA5, np.uint8)
        inside = fence[64 : 64 + output.nbytes].view(output.dtype).reshape(output.shape)
        inside[...] = output
        arguments[number] = inside
        call(name, operation, arguments)
        assert (fence[:64] == 0xA5).all()
        assert (fence[64 + output.nbytes :] == 0xA5).all()


@every_implementation
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("elements", [1, 300, 5_000])
def test_all_agree_with_numpy(name: Implementation, operation: Operation, elements: int) -> None:
    results = []
    for implementation in ("numpy", name):
        arguments = [
            value.copy() if isinstance(value, np.ndarray) else value
            for value in workload(operation, elements).arguments
        ]
        returned = call(implementation, operation, arguments)
        filled = returned if operation == "ctc_greedy" else None  # behind its tokens it may have written as well
        outputs = workload(operation, elements).outputs
        results.append((returned, [arguments[number][:filled] for number in outputs]))
    assert results[0][0] == results[1][0]
    for expected, found in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)

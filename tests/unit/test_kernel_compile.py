"""Compiling and caching: what a process after the first one pays."""

import numpy as np
import pytest

from kernels import compile as compile_policy
from kernels import compile_time
from kernels.dispatch import OPERATIONS
from kernels.drive import driver
from tests.unit.kernel_sets import compiled_implementations, every_implementation, kernel_set


def test_a_second_process_finds_everything_in_the_cache() -> None:
    times = compile_time.measure("scalar")
    assert [time.operation for time in times] == list(OPERATIONS)
    after_start_up = times[1:]
    assert sum(time.cached_ns for time in after_start_up) < sum(time.cold_ns for time in after_start_up) / 5


def test_a_change_of_the_shared_modules_makes_the_cache_invalid(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core import config

    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))

    def twice(x):  # type: ignore[no-untyped-def]
        return 2 * x

    compiled = [compile_policy.compile_loop("int64(int64)")(twice) for _ in range(2)]
    assert [loop.cached for loop in compiled] == [False, True]
    monkeypatch.setattr(compile_policy, "_shared_sources", lambda: "changed")
    assert not compile_policy.compile_loop("int64(int64)")(twice).cached
    assert compiled[1].call(21) == 42


@compiled_implementations
def test_no_kernel_is_compiled_for_other_types_later(name) -> None:
    for loop in kernel_set(name).loops.values():
        assert loop.dispatcher is not None
        assert len(loop.dispatcher.overloads) == 1
        assert not loop.dispatcher._can_compile


@compiled_implementations
def test_the_driver_calls_the_very_kernel(name) -> None:
    x, out = np.zeros((3, 40), np.float32), np.full(3, -1)
    x[:, 17] = 1
    driver(kernel_set(name).loops["argmax"])(2, (x, out))
    assert out.tolist() == [17, 17, 17]


@compiled_implementations
def test_the_driver_calls_several_kernels_one_behind_the_other(name) -> None:
    loops, x, out = kernel_set(name).loops, np.zeros((2, 40), np.float32), np.full(2, -1)
    x[:, 5] = 1
    ring = np.zeros(6, np.float32)
    driver(loops["argmax"], loops["pcm16_ring"])(3, (x, out, b"\x00\x40", ring, 4))
    assert out.tolist() == [5, 5]
    assert ring.tolist() == [0, 0, 0, 0, 0.5, 0]


def test_the_driver_refuses_what_is_not_compiled() -> None:
    with pytest.raises(ValueError, match="only a compiled loop"):
        driver(kernel_set("numpy").loops["argmax"])


@every_implementation
def test_lists_are_no_arrays(name) -> None:
    with pytest.raises((AttributeError, ValueError, TypeError)):
        kernel_set(name).argmax([[1.0]], np.zeros(1, np.int64))

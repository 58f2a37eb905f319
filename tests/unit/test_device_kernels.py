"""The kernels for arrays on a GPU, in numba's CUDA simulator, which needs a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

from pipelines.paths import home


def test_device_kernels_do_what_their_naive_twins_do() -> None:
    command = [sys.executable, "-m", "tests.fakes.cuda_simulated"]
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    done = subprocess.run(command, env=environment, cwd=home(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["pcm", "transpose", "top_k", "greedy", "beam", "refusals"]


def test_without_a_gpu_the_reason_is_told() -> None:
    code = "from numba import cuda; from kernels import device\nif not cuda.is_available(): device.require()"
    done = subprocess.run([sys.executable, "-c", code], cwd=home(), capture_output=True, text=True, check=False)
    assert done.returncode == 0 or "no usable GPU" in done.stderr

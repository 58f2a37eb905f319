"""What the k2 worker adds to a call: the real client, pipes and shared memory around an engine that does nothing.

usage: worker_overhead.py [CALLS]    writes result.json beside it
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter_ns

import numpy as np

from harness.fingerprint import fingerprint
from pipelines.decode.k2.client import Client, WorkerSettings
from pipelines.decode.openfst import Transducer
from pipelines.paths import models_dir

FRAMES, LABELS = 500, 512
NOTHING = """#!{python}
import runpy, sys, types

class Engine:
    def __init__(self, graph, device, threads):
        pass

    def decode(self, log_probs, beam, lattice_beam, nbest):
        return [(ANSWER, OUTPUTS, 0.0)]

ANSWER, OUTPUTS = [0] * {frames}, [1] * 40
sys.modules["engine"] = types.SimpleNamespace(Engine=Engine)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def main() -> None:
    """Measure and write the result."""
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    one = np.zeros(1, np.int32)
    graph = Transducer(0, np.zeros(2, np.float32), one, one, one, np.zeros(1, np.float32), one)
    values = np.random.default_rng(0).standard_normal((FRAMES, LABELS)).astype(np.float32)
    with TemporaryDirectory() as folder:
        python = Path(folder) / "python"
        python.write_text(NOTHING.format(python=sys.executable, frames=FRAMES), "utf-8")
        python.chmod(0o755)
        client = Client(WorkerSettings(python, "cpu", 1, 10.0), graph)
        took_ns = []
        for _ in range(calls + 20):
            start_ns = perf_counter_ns()
            client.decode(values, 12.0, 6.0, 1)
            took_ns.append(perf_counter_ns() - start_ns)
        client.close()
    took_ms = np.array(took_ns[20:]) / 1e6
    result = {
        "shape": [FRAMES, LABELS],
        "calls": calls,
        "overhead_ms": {f"p{q}": round(float(np.percentile(took_ms, q)), 4) for q in (10, 50, 90, 99)},
        "fingerprint": fingerprint(models_dir(), []),
    }
    Path(__file__).with_name("result.json").write_text(json.dumps(result, indent=1, default=str) + "\n", "utf-8")
    print(json.dumps(result["overhead_ms"]))


if __name__ == "__main__":
    main()

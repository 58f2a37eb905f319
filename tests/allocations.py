"""What a piece of work allocates, once it is warm."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable

import numpy as np

Allocated = tuple[int, int, int]


def traced(work: Callable[[], object]) -> Allocated:
    """Bytes that 50 calls keep, the peak above them, and NumPy data among what is kept.

    tracemalloc sees NumPy's data in a domain of its own; its peak also sees what lives only for a moment.
    """
    for _ in range(20):
        work()
    gc.collect()
    tracemalloc.start()
    try:
        work()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for _ in range(50):
            work()
        held_after, peak = tracemalloc.get_traced_memory()
        arrays = tracemalloc.take_snapshot().filter_traces([tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)])
    finally:
        tracemalloc.stop()
    return held_after - held, peak - held, sum(trace.size for trace in arrays.traces)

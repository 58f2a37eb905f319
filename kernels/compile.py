"""How loops are compiled: the one place that holds numba's policy (no fastmath, no GIL, no silent object mode)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def _no_vectorisation() -> Iterator[None]:
    """Switch LLVM's loop and SLP vectorisers off for what is compiled inside the block."""
    from numba.core import config as numba_config

    config: Any = numba_config

    before = config.LOOP_VECTORIZE, config.SLP_VECTORIZE
    config.LOOP_VECTORIZE, config.SLP_VECTORIZE = 0, 0
    try:
        yield
    finally:
        config.LOOP_VECTORIZE, config.SLP_VECTORIZE = before


def scalar_njit(signature: str) -> Callable[[Callable[..., Any]], Any]:
    """Compile a loop for one signature, now, with vectorisation really off."""
    import numba

    def compile_now(function: Callable[..., Any]) -> Any:
        with _no_vectorisation():
            return numba.njit(signature, nogil=True, fastmath=False)(function)

    return compile_now

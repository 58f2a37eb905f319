"""Hedging: when an answer is late, the same call goes out a second time, and the first answer counts.

It buys tail latency with load (Dean and Barroso, "The Tail at Scale"), so it is off unless asked for, takes from the
retry budget, and is for idempotent calls only. The slower call is not cancelled; its own deadline ends it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from typing import TypeVar

from pipelines.resilience.errors import ServiceError
from pipelines.resilience.retry import RetryBudget

R = TypeVar("R")


def hedged(make: Callable[[], R], after_s: float, budget: RetryBudget, executor: Executor) -> R:
    """Call `make`, and once more if it has not answered after `after_s` and the budget allows it.

    Raises:
        ServiceError: Neither call was answered; the error of the one that failed last.
    """
    calls: set[Future[R]] = {executor.submit(make)}
    done, waiting = wait(calls, timeout=after_s)
    if not done and budget.take():
        waiting = waiting | {executor.submit(make)}
    while True:
        for call in done:
            if not isinstance(call.exception(), ServiceError) or not waiting:
                return call.result()
        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)

"""The user's wish to stop: Ctrl-C or SIGTERM becomes a flag, so that a run ends between two lines, not inside one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)
TIME_IS_UP = "the time is up"
_Handler = Callable[[int, FrameType | None], object] | int | None


class Stop:
    """Catches the signals for the time of a `with` block.

    Attributes:
        requested: What asked to stop, e.g. `interrupted by SIGINT`; `None` while nothing has.
    """

    def __init__(self) -> None:
        """Nothing is caught before the `with` block."""
        self.requested: str | None = None
        self._before: dict[signal.Signals, _Handler] = {}

    def __enter__(self) -> Self:
        # Python delivers signals to the main thread alone; a run in another thread is stopped by its caller.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._request) for number in SIGNALS}
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def after(self, seconds: float) -> Iterator[None]:
        """Ask to stop after so long, unless the block ends before."""
        timer = threading.Timer(seconds, self._time_is_up)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _time_is_up(self) -> None:
        self.requested = self.requested or TIME_IS_UP

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = f"interrupted by {signal.Signals(number).name}"

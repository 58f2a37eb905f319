"""A headless Chromium from the PATH."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def playwright() -> Iterator[Any]:
    """Playwright with a Chromium from the PATH, one at a time; skips the test where there is none."""
    if _path() is None:
        pytest.skip(f"no Chromium on the PATH (looked for {', '.join(NAMES)}); install Debian's 'chromium' package")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (the 'dev' extra)")
    with sync_api.sync_playwright() as started:
        yield started


@contextmanager
def chromium(started: Any, *arguments: str) -> Iterator[Any]:
    """A browser with arguments of its own."""
    opened = started.chromium.launch(executable_path=_path(), args=[*ARGUMENTS, *arguments])
    try:
        yield opened
    finally:
        opened.close()


def _path() -> str | None:
    return next((found for name in NAMES if (found := shutil.which(name))), None)

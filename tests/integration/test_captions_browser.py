"""The live-captions page of a real server in a real browser, whose microphone hears a recording."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from harness.metrics.wer import count_errors
from pipelines.paths import corpora_dir
from tests.fakes.chromium import chromium, playwright
from tests.fakes.serving import Server, serving

pytestmark = pytest.mark.browser
CLIP = corpora_dir() / "starter" / "beckett.wav"
TEXT = "Ever tried. Ever failed. No matter. Try again. Fail again. Fail better."
TOKEN = "a-token-for-tests"
WAIT_MS = 60_000


@contextmanager
def microphone(started: Any, wav: Path) -> Iterator[Any]:
    with chromium(
        started,
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={wav}%noloop",
        "--autoplay-policy=no-user-gesture-required",
    ) as browser:
        yield browser


@pytest.fixture(scope="module")
def started() -> Iterator[Any]:
    with playwright() as opened:
        yield opened


@pytest.fixture(scope="module")
def tone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of a tone at 44.1 kHz: the page has to convert it."""
    path = tmp_path_factory.mktemp("microphone") / "tone.wav"
    seconds = np.arange(4 * 44_100) / 44_100
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 440 * seconds), 44_100, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def browser(started: Any, tone: Path) -> Iterator[Any]:
    with microphone(started, tone) as opened:
        yield opened


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("--null") as running:
        yield running


@contextmanager
def captions(browser: Any, server: Server, **options: Any) -> Iterator[Any]:
    """The page; at the end it must not have complained."""
    context = browser.new_context(**options)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(f"{server.http}/captions/", wait_until="load")
    yield page
    assert complaints == []
    assert [url for url in requests if not url.startswith((server.http, "data:", "blob:"))] == []
    context.close()


def state(page: Any, wanted: str) -> None:
    page.wait_for_selector(f"#status[data-state='{wanted}']", timeout=WAIT_MS)


def shows(page: Any, pattern: str) -> None:
    """Wait until the captions have it."""
    page.locator("#captions", has_text=re.compile(pattern)).wait_for(timeout=WAIT_MS)


def test_what_the_microphone_hears_reaches_the_server_and_comes_back(browser: Any, server: Server) -> None:
    """The null recogniser tells how much it heard: 16 kHz audio at the pace of the clock, and all of it."""
    before = server.metric("audio_seconds_total")
    with captions(browser, server) as page:
        page.click("#start")
        state(page, "listening")
        shows(page, "heard [2-9][0-9]00 ms")
        assert page.locator("#captions .unstable").inner_text().endswith("ms")
        page.click("#start")
        state(page, "idle")
        [line] = page.locator("#captions li").all_inner_texts()
        assert page.locator("#captions .unstable").count() == 0
        assert page.locator("#hint").is_hidden()
        assert page.locator("#problem").is_hidden()
    heard_ms = int(line.removeprefix("heard ").removesuffix(" ms"))
    sent_s = server.metric("audio_seconds_total") - before
    assert 2.0 <= heard_ms / 1_000 <= sent_s + 0.1
    assert sent_s < 60
    assert server.metric('sessions_total{outcome="finished"}') >= 1


def test_captions_can_be_saved_and_cleared_and_go_on(browser: Any, server: Server) -> None:
    with captions(browser, server) as page:
        for turn in (0, 1):
            page.click("#start")
            page.locator("#captions li").nth(turn).wait_for()
            page.click("#start")
            state(page, "idle")
        lines = page.locator("#captions li").all_inner_texts()
        with page.expect_download() as download:
            page.click("#save")
        assert Path(download.value.path()).read_text("utf-8").splitlines() == lines
        page.click("#clear")
        assert page.locator("#captions li").count() == 0
        assert page.locator("#hint").is_visible()
        assert page.locator("#save").is_disabled()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits(browser: Any, server: Server, width: int, scheme: str) -> None:
    size = {"width": width, "height": 800}
    with captions(browser, server, viewport=size, color_scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("document.documentElement.scrollHeight") <= 800
        for name in ("#start", "#save", "#status", "h1"):
            box = page.locator(name).bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width


def test_a_microphone_that_is_refused_is_explained(started: Any, server: Server) -> None:
    """And the server hears nothing of it."""
    with chromium(started, "--deny-permission-prompts") as browser, captions(browser, server) as page:
        sockets: list[str] = []
        page.on("websocket", lambda socket: sockets.append(socket.url))
        page.click("#start")
        page.wait_for_selector("#problem:not([hidden])")
        assert "microphone" in page.locator("#problem").inner_text().lower()
        state(page, "idle")
        assert sockets == []


def test_a_server_that_wants_a_token_gets_one(browser: Any) -> None:
    with serving("--null", "--set", f'tokens=["{TOKEN}"]') as server, captions(browser, server) as page:
        page.click("#start")
        page.wait_for_selector("#token-form:not([hidden])")
        page.fill("#token", TOKEN)
        page.click("#token-form button")
        shows(page, "heard")
        page.click("#start")
        state(page, "idle")


def test_a_server_that_is_gone_is_explained_and_comes_back(browser: Any) -> None:
    with serving("--null", "--set", "grace_ms=0") as first:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{first.http}/captions/")
        page.click("#start")
        state(page, "listening")
        first.stop()
        page.wait_for_selector("#problem:not([hidden])")
        assert "kept for a minute" in page.locator("#problem").inner_text()
        with serving("--null", "--port", str(first.port)):
            state(page, "listening")
            page.locator("#problem").wait_for(state="hidden")
            shows(page, "heard")
            page.click("#start")
            state(page, "idle")
        context.close()


@pytest.mark.models
def test_someone_speaks_and_the_words_appear(started: Any) -> None:
    if not CLIP.is_file():
        pytest.skip("the starter corpus is not built: amira corpus build")
    with serving() as server, microphone(started, CLIP) as browser, captions(browser, server) as page:
        page.click("#start")
        page.wait_for_selector("#captions .unstable", timeout=WAIT_MS)  # words while the speaker still speaks
        shows(page, "[Bb]etter")
        page.click("#start")
        state(page, "idle")
        said = " ".join(page.locator("#captions li").all_inner_texts())
        assert page.locator("#model").inner_text()
    assert count_errors(TEXT, said).errors <= 2, said

"""The page in a real browser, opened from disk, with the network shut off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.report import write_report
from harness.report.numbers import ratio_interval, times
from harness.store import open_run
from harness.stored import open_stored
from harness.summary import summarise
from pipelines.paths import home
from tests.fakes.chromium import chromium, playwright
from tests.synthetic import FakeRun, write_run

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright() as started, chromium(started) as opened:
        yield opened


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    run = open_run(write_run(tmp_path_factory.mktemp("run"), FakeRun()))
    return write_report(run).html, summarise(run)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_stands_alone_and_fits(
    browser: Any, report: tuple[Path, dict[str, Any]], width: int, scheme: str
) -> None:
    _stands_alone(browser, report[0], width, scheme, figures=6)


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_a_page_of_load_ledger_decoders_and_faults_stands_alone(
    browser: Any, gathered: Path, width: int, scheme: str
) -> None:
    _stands_alone(browser, gathered, width, scheme, figures=3)


@pytest.fixture(scope="module")
def gathered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = ("server-load", "ledger", "decoders", "triton-faults")
    first, *others = (open_stored(str(home() / "reports" / name)) for name in names)
    return write_report(first, tmp_path_factory.mktemp("page"), others).html


def _stands_alone(browser: Any, path: Path, width: int, scheme: str, figures: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page = context.new_page()
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url[:100]))
    page.on("request", lambda request: requests.append(request.url[:100]))
    page.goto(path.as_uri(), wait_until="load")
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file://", "data:"))] == []
    images = page.evaluate("[...document.images].map(i => [i.naturalWidth, i.naturalHeight, i.alt, i.complete])")
    assert len(images) == figures
    for natural_width, natural_height, alt, complete in images:
        assert complete
        assert natural_width > 0
        assert natural_height > 0
        assert len(alt) > 20
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def test_the_ladder_on_the_page_is_that_of_the_summary(browser: Any, report: tuple[Path, dict[str, Any]]) -> None:
    context = browser.new_context(offline=True, java_script_enabled=True)
    page = context.new_page()
    page.goto(report[0].as_uri())
    for rung in report[1]["rungs"]:
        row = page.locator(f"tr[data-rung='{rung['candidate']}']")
        cells = row.locator("td").all_inner_texts()
        whole = rung["cumulative"]
        assert cells == [
            times(rung["ratio"]),
            ratio_interval(rung["low"], rung["high"]),
            rung["verdict"],
            times(whole["ratio"]),
            ratio_interval(whole["low"], whole["high"]),
        ]
        exact = [float(cell.get_attribute("data-value")) for cell in row.locator("td[data-value]").all()]
        assert exact == [rung["ratio"], whole["ratio"]]
    assert len(report[1]["rungs"]) == 5
    context.close()


def test_text_and_figures_are_legible_on_a_dark_page(browser: Any, report: tuple[Path, dict[str, Any]]) -> None:
    """The page turns dark, and the pictures with it: their ink is light there and dark on the light page."""
    lightness = {}
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme, offline=True, viewport={"width": 1280, "height": 900})
        page = context.new_page()
        page.goto(report[0].as_uri())
        lightness[scheme] = page.evaluate(
            """async () => {
                const image = document.getElementById('figure-ladder');
                await image.decode();
                const canvas = document.createElement('canvas');
                [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
                const context = canvas.getContext('2d');
                context.drawImage(image, 0, 0);
                const data = context.getImageData(0, 0, Math.round(canvas.width * 0.22), canvas.height).data;
                let sum = 0, weight = 0;  // of the titles' ink, by its opacity
                for (let i = 0; i < data.length; i += 4) {
                    sum += data[i + 3] * (data[i] + data[i + 1] + data[i + 2]) / 3;
                    weight += data[i + 3];
                }
                return sum / weight;
            }"""
        )
        context.close()
    assert lightness["light"] < 80
    assert lightness["dark"] > 170


def test_the_page_works_without_scripts(browser: Any, report: tuple[Path, dict[str, Any]]) -> None:
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(report[0].as_uri())
    assert page.locator("h1").inner_text() == report[1]["title"]
    assert page.locator("table caption").count() == page.locator("table").count()
    assert page.locator("table thead th:not([scope])").count() == 0
    context.close()

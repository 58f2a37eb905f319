"""PERFORMANCE.md says what its runs say, and a stale or broken block is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.report.performance import BLOCK, DOCUMENT, filled_in
from pipelines.errors import AmiraError
from pipelines.paths import home
from tests.synthetic import write_run


def test_the_committed_document_is_not_stale() -> None:
    path = home() / DOCUMENT
    assert filled_in(path) == path.read_text(), "write it anew: amira performance"


def test_every_number_of_the_committed_tables_names_its_run() -> None:
    for block in BLOCK.finditer((home() / DOCUMENT).read_text()):
        assert block["path"].startswith("reports/")
        assert f"({block['path']}/" in block["body"]


def test_a_block_is_filled_from_its_run(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    document = tmp_path / "doc.md"
    for kind in ("ladder", "comparisons", "accuracy"):
        document.write_text(f"before\n<!-- amira {kind} {run.name} -->\nold 1.23\n<!-- /amira -->\nafter\n")
        text = filled_in(document)
        assert text.startswith("before\n")
        assert text.endswith("<!-- /amira -->\nafter\n")
        assert "old 1.23" not in text
        assert "INT8 matrix products" in text
        assert f"({run.name}/report.md)" in text
        document.write_text(text)
        assert filled_in(document) == text


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("<!-- amira ladders x -->\n<!-- /amira -->", "Did you mean 'ladder'"),
        ("<!-- amira ladder x -->\n", "1 blocks and 0 that are closed"),
        ("<!-- amira ladder no-run -->\n<!-- /amira -->", "is not a run"),
        ("<!-- amira calibration no-run -->\n<!-- /amira -->", "is no calibration"),
    ],
)
def test_a_broken_block_is_one_clear_message(block: str, message: str, tmp_path: Path) -> None:
    document = tmp_path / "doc.md"
    document.write_text(block)
    with pytest.raises(AmiraError, match=message):
        filled_in(document)

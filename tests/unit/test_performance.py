"""PERFORMANCE.md says what its runs say, and a stale or broken block is noticed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.report.blocks import BAR, KINDS
from harness.report.performance import BLOCK, DOCUMENT, documents, filled_in
from pipelines.errors import AmiraError
from pipelines.paths import home
from tests.synthetic import write_run


@pytest.mark.parametrize("path", documents(home()), ids=lambda path: str(path.relative_to(home())))
def test_no_committed_document_is_stale(path: Path) -> None:
    assert filled_in(path) == path.read_text(), "write it anew: amira performance"


def test_every_number_of_the_committed_tables_names_its_run() -> None:
    """Each cell that holds a number links to a file that is there."""
    text = (home() / DOCUMENT).read_text()
    links = dict(re.findall(r"^\[([^\]]+)\]: (\S+)$", text, re.MULTILINE))
    blocks = list(BLOCK.finditer(text))
    assert {block["kind"] for block in blocks} == set(KINDS)
    for block in blocks:
        rows = re.findall(r"(?<=[-:]\|\n)((?:\|.*\n)+)", block["body"])
        assert rows or "Not measured" in block["body"], block["path"]
        for row in "".join(rows).splitlines():
            for cell in BAR.split(row.strip("|"))[1:]:
                if any(char.isdigit() for char in cell):
                    name = cell.strip().rpartition("][")[2].rstrip("]")
                    assert (home() / links[name]).is_file(), f"{block['path']}: {cell}"


def test_a_block_is_filled_from_its_run(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    document = tmp_path / "doc.md"
    for kind in ("ladder", "comparisons", "accuracy", "beside"):
        document.write_text(f"before\n<!-- amira {kind} {run.name} -->\nold 1.23\n<!-- /amira -->\nafter\n")
        text = filled_in(document)
        assert text.startswith("before\n")
        assert text.endswith("<!-- /amira -->\nafter\n")
        assert "old 1.23" not in text
        assert "moonshine-cpp's own engine" in text if kind == "beside" else "INT8 matrix products" in text
        assert f"[{run.name}]: {run.name}/report.md" in text
        document.write_text(text)
        assert filled_in(document) == text


def test_an_excerpt_is_a_table_of_another_document(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    table = "| a | b |\n|---|---|\n| row 1 | 2 |\n| row 3 | none |\n"
    (folder / "made.md").write_text(
        f"text\n\n{table}\nmore\n\n<!-- second -->\n{table.replace('2', '7')}<!-- end second -->\n"
    )
    document = tmp_path / "doc.md"
    for name, number in (("1", "2"), ("second", "7")):
        document.write_text(f"<!-- amira excerpt x/made.md#{name} -->\n<!-- /amira -->\n")
        text = filled_in(document)
        assert f"| row 1 | [{number}][x] |\n| row 3 | none |\n" in text
        assert "[x]: x/made.md" in text
    document.write_text("<!-- amira excerpt x/made.md#3 -->\n<!-- /amira -->\n")
    with pytest.raises(AmiraError, match="has no table '3'"):
        filled_in(document)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("<!-- amira ladders x -->\n<!-- /amira -->", "Did you mean 'ladder'"),
        ("<!-- amira ladder x -->\n", "1 blocks and 0 that are closed"),
        ("<!-- amira decoders reports/default -->\n<!-- /amira -->", "is not a run"),
        ("<!-- amira load no-run -->\n<!-- /amira -->", "is broken"),
        ("<!-- amira excerpt no-file#1 -->\n<!-- /amira -->", "cannot be read"),
        ("<!-- amira ladder no-run -->\n<!-- /amira -->", "is not a run"),
        ("<!-- amira calibration no-run -->\n<!-- /amira -->", "is no calibration"),
    ],
)
def test_a_broken_block_is_one_clear_message(block: str, message: str, tmp_path: Path) -> None:
    document = tmp_path / "doc.md"
    document.write_text(block)
    with pytest.raises(AmiraError, match=message):
        filled_in(document)

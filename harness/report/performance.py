"""Documents of text by hand and tables from stored runs between markers: PERFORMANCE.md, and what experiments found.

A block begins with `<!-- amira KIND PATH -->` and ends with `<!-- /amira -->`. What stands between is made anew from
what is stored under PATH, relative to the document, so that no number can be older than its run. Every cell with a
number links to what it comes from. The kinds of blocks are in `harness.report.blocks`.
"""

from __future__ import annotations

import re
from pathlib import Path

from harness.report.blocks import KINDS
from pipelines.errors import AmiraError, unknown

DOCUMENT = "PERFORMANCE.md"
OPENING = "<!-- amira "
BLOCK = re.compile(r"(<!-- amira (?P<kind>\S+) (?P<path>\S+) -->\n)(?P<body>.*?)(<!-- /amira -->)", re.DOTALL)


def documents(root: Path) -> list[Path]:
    """The documents of a checkout that have blocks."""
    found = [root / DOCUMENT, *sorted(root.glob("experiments/*/README.md"))]
    return [path for path in found if path.is_file() and OPENING in path.read_text(encoding="utf-8")]


def filled_in(document: Path) -> str:
    """The document with every block made anew.

    Raises:
        AmiraError: A block is of an unknown kind, is never closed, or its run cannot be read.
    """
    try:
        text = document.read_text(encoding="utf-8")
    except OSError as error:
        raise AmiraError(f"'{document}' cannot be read: {error.strerror}.") from error
    opened, closed = text.count(OPENING), len(BLOCK.findall(text))
    if opened != closed:
        raise AmiraError(
            f"'{document}' has {opened} blocks and {closed} that are closed. Close each with <!-- /amira -->."
        )
    return BLOCK.sub(lambda block: f"{block[1]}{_body(block['kind'], block['path'], document)}{block[5]}", text)


def _body(kind: str, path: str, document: Path) -> str:
    if kind not in KINDS:
        raise unknown("block", kind, KINDS, f"It stands in '{document}'.")
    return KINDS[kind](document.parent / path, path)

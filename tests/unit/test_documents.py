"""Documents name files, headings and commands that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from harness.cli import cli
from pipelines.paths import home

ROOT = home()
FOLDERS = (".", "ci", "experiments/*", "model-repo", "protocol", "clients/*", "reports/*")
DOCUMENTS = sorted({path for folder in FOLDERS for path in ROOT.glob(f"{folder}/*.md")})
LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$", re.MULTILINE)
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub makes of a document's headings."""
    headings = re.findall(r"^#+ (.*)$", CODE.sub("", path.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for match in LINK.finditer(CODE.sub("", path.read_text("utf-8"))):
        link = match[1] or match[2]
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), link


def test_commands_are_there() -> None:
    known = set(typer.main.get_command(cli).commands)  # type: ignore[attr-defined]
    named = set()
    for path in DOCUMENTS:
        if path.name != "CHANGELOG.md":
            code = re.findall(r"^```sh\n.*?^```$|`[^`\n]+`", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)
            named |= {name for text in code for name in re.findall(r"(?<![\w/-])amira ([a-z]+)(?![\w/-])", text)}
    assert len(named) > 10
    assert named <= known


def test_make_targets_are_there() -> None:
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        name
        for path in ROOT.glob("*.md")
        for name in re.findall(r"(?:^|`)make ([a-z0-9]+)", path.read_text(), re.MULTILINE)
    }
    assert named
    assert named <= targets

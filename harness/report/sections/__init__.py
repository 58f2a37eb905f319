"""What a page can hold beside the numbers of one run: sections of text, figures and tables, for HTML and Markdown.

A section is made from stored data by a module of this package; the templates know nothing of what it is about.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.report.pictures import Picture


@dataclass(frozen=True, slots=True)
class Verdict:
    """A cell with a word of judgement, which the page colours."""

    word: str


Cell = str | Verdict


@dataclass(frozen=True, slots=True)
class Table:
    """A table. Its first column names the rows.

    Attributes:
        caption: What it shows, with units.
        headings: Of the columns.
        rows: As many cells each.
        words: Columns that are text and not numbers, by place; the first always is.
    """

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    words: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Link:
    """A file beside the page."""

    href: str
    text: str


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page.

    Attributes:
        id: Unique on its page.
        title: Its heading, short enough for the navigation.
        about: What it shows, in a sentence or two.
        findings: Sentences that say what the numbers say.
        figures: In order.
        tables: In order.
        links: Files beside the page.
        notes: What limits it.
    """

    id: str
    title: str
    about: str
    findings: tuple[str, ...] = ()
    figures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    links: tuple[Link, ...] = ()
    notes: tuple[str, ...] = ()

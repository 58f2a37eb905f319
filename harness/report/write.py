"""Writing reports: of a run into its folder, of several onto one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.report.options import Options
from harness.store import Run
from harness.stored import Stored, StoredFaults, StoredLoad
from pipelines.errors import AmiraError


@dataclass(frozen=True, slots=True)
class ReportPaths:
    """What a report consists of."""

    html: Path
    markdown: Path
    figures: tuple[Path, ...]


def write_report(
    first: Stored, out_dir: Path | None = None, others: Sequence[Stored] = (), options: Options | None = None
) -> ReportPaths:
    """Write `report.html`, `report.md` and `figures/`.

    A run of a plan gives the page's body, and what stands beside it is a section each: what the run itself has to say
    (ledger, decoders, profiles), the other runs, and comparisons with those that have cases in common.

    Args:
        first: What the page is about.
        out_dir: Where to write; the folder of `first` by default.
        others: What stands beside it.
        options: Prices, margins, and whether the history of the plan is shown.

    Raises:
        AmiraError: The folder cannot be written, or one of the runs cannot be evaluated.
    """
    from harness.report import page
    from harness.report.assemble import sections_of
    from harness.report.pictures import draw_all
    from harness.summary import summarise

    folder = first.path if out_dir is None else Path(out_dir)
    summary = summarise(first) if isinstance(first, Run) else {}
    sections = sections_of(first, summary, others, folder, options or Options())
    pictures = {picture.name: picture for section in sections for picture in section.figures}
    if isinstance(first, Run):
        own = draw_all(first, summary)
        pictures = own | pictures
        html = page.html_page(first, summary, own, sections)
        markdown = page.markdown_page(first, summary, own, sections)
    else:
        title, origin = _named(first)
        html = page.html_of_sections(title, origin, sections)
        markdown = page.markdown_of_sections(title, origin, sections)
    files: dict[Path, bytes] = {}
    for name, picture in pictures.items():
        files[folder / "figures" / f"{name}.svg"] = picture.svg.encode()
        files[folder / "figures" / f"{name}.png"] = picture.png
    paths = folder / "report.html", folder / "report.md"
    files |= {paths[1]: markdown.encode(), paths[0]: html.encode()}
    for path, content in files.items():
        _write(path, content)
    return ReportPaths(*paths, tuple(path for path in files if path.parent.name == "figures"))


def _named(first: StoredLoad | StoredFaults) -> tuple[str, str]:
    if isinstance(first, StoredLoad):
        return "What load does to the server", f"load run {first.summary['run']}"
    return "What faults do to callers", f"the faults of {first.path.name}"


def write_readme_picture(run: Run, path: Path) -> Path:
    """Write the ladder of a run as one picture for a README: SVG or PNG, as the ending of `path` says.

    Raises:
        AmiraError: The ending is another, the run has no measured ladder, or the file cannot be written.
    """
    from harness.report.figures import ladder
    from harness.report.pictures import render, save
    from harness.report.style import WIDE
    from harness.summary import summarise

    kind = path.suffix.removeprefix(".").lower()
    if kind not in ("svg", "png"):
        raise AmiraError(f"picture '{path.name}' must end in .svg or .png, not '{path.suffix}'. Rename it.")
    summary = summarise(run)
    figure = render(lambda layout: ladder.draw(summary, layout), WIDE)
    if figure is None:
        raise AmiraError(
            f"run '{run.manifest.run}' has no ladder with two measured rungs, so there is no picture to draw. "
            "Use a run of a plan with [[ladder]] entries, e.g. experiments/default/plan.toml."
        )
    _write(path, save(figure, WIDE, kind))
    return path


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise AmiraError(
            f"cannot write '{path}': {error.strerror or error}. "
            "Free some space, or write the report elsewhere with: amira report RUN --output FOLDER"
        ) from error

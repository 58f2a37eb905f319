"""Writing a report into a run's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.store import Run
from pipelines.errors import AmiraError


@dataclass(frozen=True, slots=True)
class ReportPaths:
    """What a report consists of."""

    html: Path
    markdown: Path
    figures: tuple[Path, ...]


def write_report(run: Run, out_dir: Path | None = None) -> ReportPaths:
    """Write `report.html`, `report.md` and `figures/` of a run.

    Args:
        run: The run, as `open_run` gives it.
        out_dir: Where to write; the run's own folder by default.

    Raises:
        AmiraError: The folder cannot be written.
    """
    from harness.report.page import html_page, markdown_page
    from harness.report.pictures import draw_all
    from harness.summary import summarise

    folder = run.path if out_dir is None else Path(out_dir)
    summary = summarise(run)
    pictures = draw_all(run, summary)
    html, markdown = folder / "report.html", folder / "report.md"
    files: dict[Path, bytes] = {}
    for name, picture in pictures.items():
        files[folder / "figures" / f"{name}.svg"] = picture.svg.encode()
        files[folder / "figures" / f"{name}.png"] = picture.png
    files[markdown] = markdown_page(run, summary, pictures).encode()
    files[html] = html_page(run, summary, pictures).encode()
    for path, content in files.items():
        _write(path, content)
    return ReportPaths(html, markdown, tuple(path for path in files if path.parent.name == "figures"))


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

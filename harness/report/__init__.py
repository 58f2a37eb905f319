"""Reports: one self-contained HTML page, Markdown, and figures, all derived from a stored run."""

from harness.report.write import ReportPaths, write_readme_picture, write_report

__all__ = ["ReportPaths", "write_readme_picture", "write_report"]

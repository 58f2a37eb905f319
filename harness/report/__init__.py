"""Reports: one self-contained HTML page, Markdown, and figures, all derived from what is stored."""

from harness.report.options import Options
from harness.report.write import ReportPaths, write_readme_picture, write_report

__all__ = ["Options", "ReportPaths", "write_readme_picture", "write_report"]

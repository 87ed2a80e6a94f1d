"""The HTML pages, one file for each."""

from geomfeat.report.pages.study import write_page

__all__ = [
    "write_page",
]

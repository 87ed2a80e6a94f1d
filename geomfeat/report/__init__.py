"""Tables, paper figures and the self-contained page: what a reader sees of a study."""

from geomfeat.report.content.number_format import location_table
from geomfeat.report.figures import save_figures
from geomfeat.report.pages.study import write_page

__all__ = ["location_table", "save_figures", "write_page"]

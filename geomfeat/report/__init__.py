"""Tables, paper figures and the self-contained page: what a reader sees of a study."""

from geomfeat.report.figures import save_figures
from geomfeat.report.page import write_page
from geomfeat.report.tables import location_table

__all__ = ["location_table", "save_figures", "write_page"]

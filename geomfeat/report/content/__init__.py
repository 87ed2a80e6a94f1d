"""What a page says: sentences, tables, and the data of charts."""

from geomfeat.report.content.number_format import location_table

__all__ = [
    "location_table",
]

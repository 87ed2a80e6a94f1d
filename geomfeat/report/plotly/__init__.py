"""Charts as plotly figures, for pages."""

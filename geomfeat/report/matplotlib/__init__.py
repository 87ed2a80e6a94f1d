"""Charts as matplotlib figures, for papers."""

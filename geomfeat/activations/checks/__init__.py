"""Whether rows are the samples, and positions are tokens that are there: checks of an extraction."""

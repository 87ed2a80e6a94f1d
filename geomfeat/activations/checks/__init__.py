"""Checks of an extraction: rows are the samples, and positions are valid tokens."""

"""Measures of two layers on the same samples."""

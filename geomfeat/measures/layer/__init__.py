"""Measures of one layer."""

"""Measures of a network before and after training."""

"""Measures of a series of snapshots of one training."""

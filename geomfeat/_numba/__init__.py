"""Compiled loops, for callers inside geomfeat: they check their arguments, the loops do not."""

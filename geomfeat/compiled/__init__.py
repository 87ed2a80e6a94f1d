"""Compiled loops (numba) over arrays: what tensor operations are too coarse for. Imported when first needed."""

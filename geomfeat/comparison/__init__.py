"""Several models: those one has, on the same samples, and those of a sweep that trains and measures a whole grid."""

"""The solver of manifold capacity: projections onto cones of labelled points."""

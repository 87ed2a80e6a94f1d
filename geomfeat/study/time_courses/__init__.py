"""A recording in every time bin: measures, pairs of areas and layers, trajectories, paired differences and tests."""

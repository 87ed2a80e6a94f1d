"""Tangent kernels from rules for each layer, without forming Jacobians."""

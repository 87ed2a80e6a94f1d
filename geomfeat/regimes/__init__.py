"""Regimes of learning: training at a chosen richness, and the linear response of a network."""

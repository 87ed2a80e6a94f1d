"""Predictions and simulations of capacity: balls, integral geometry, replica theory, counting."""

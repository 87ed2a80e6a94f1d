"""Measures, one file each; the registry finds them, and they never import each other."""

"""Diagnostics of a network at two moments, one file each; the registry finds them. `locate` is among them."""

"""Hostile calls of the command line: damaged files, odd option values, factories that misbehave. See `__main__`."""

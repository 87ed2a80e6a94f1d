"""Several networks, recordings or trainings beside each other.

`models` compares networks on the same samples, `sweeps` trains and measures a grid, `relations` finds what follows
from initialization scale, learning rate and width, `validation` judges the location by what theory knows.
"""

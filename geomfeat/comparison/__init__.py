"""Compare existing models and recordings; train and analyse sweeps.

`models` compares networks on the same samples, `sweeps` trains and measures a grid, `relations` finds what follows
from initialization scale, learning rate and width, `validation` tests the location against theory.
"""

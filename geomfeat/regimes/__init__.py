"""Regimes of training: how richness is set, and the theory of what follows.

`training` trains at a known richness, `linearization` compares with the lazy limit, `stability` finds the largest
rate, `width` scales networks, `linear_networks` and `grokking` hold cases with known answers.
"""

from geomfeat.regimes import grokking, linear_networks, linearization, stability, training, width
from geomfeat.regimes.grokking import *
from geomfeat.regimes.linear_networks import *
from geomfeat.regimes.linearization import *
from geomfeat.regimes.stability import *
from geomfeat.regimes.training import *
from geomfeat.regimes.width import *

__all__: list[str] = []
__all__ += grokking.__all__
__all__ += linear_networks.__all__
__all__ += linearization.__all__
__all__ += stability.__all__
__all__ += training.__all__
__all__ += width.__all__

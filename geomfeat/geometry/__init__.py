"""Geometry of point clouds: manifolds, dimension, similarity, dissimilarity matrices, probes. Pure functions."""

from geomfeat.geometry import dimension, manifolds, probes, rsa, similarity, trajectories
from geomfeat.geometry.dimension import *
from geomfeat.geometry.manifolds import *
from geomfeat.geometry.probes import *
from geomfeat.geometry.rsa import *
from geomfeat.geometry.similarity import *
from geomfeat.geometry.trajectories import *

__all__: list[str] = []
__all__ += dimension.__all__
__all__ += manifolds.__all__
__all__ += probes.__all__
__all__ += rsa.__all__
__all__ += similarity.__all__
__all__ += trajectories.__all__

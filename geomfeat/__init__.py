"""geomfeat: the geometry of what neural networks have learned, and where they sit between lazy and rich."""

from geomfeat._version import __version__

__all__ = ["__version__"]

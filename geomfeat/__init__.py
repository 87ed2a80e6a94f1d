"""geomfeat: the geometry of what neural networks have learned, and where they sit between lazy and rich.

The public names stand in `__init__.pyi`. They are imported when they are first used, so that `import geomfeat` and the
command line's help do not wait for torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

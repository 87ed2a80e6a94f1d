"""Reference architectures, checkpoints, and any module as a function of its parameters."""

from geomfeat.models.zoo import build

__all__ = ["build"]

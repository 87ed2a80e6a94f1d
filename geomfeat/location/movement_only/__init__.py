"""How far a network moved, without derivatives of it: for models that are too large to be located."""

from geomfeat.location.movement_only._movement import movement
from geomfeat.location.movement_only.result import Movement

__all__ = ["Movement", "movement"]

"""What follows from initialization scale, learning rate and width: slopes, equal fit, phase maps."""

from geomfeat.comparison.relations._relate import Related, relate
from geomfeat.comparison.relations.equal_fit import Matched, match
from geomfeat.comparison.relations.phase_map import Grid, portrait

__all__ = ["Grid", "Matched", "Related", "match", "portrait", "relate"]

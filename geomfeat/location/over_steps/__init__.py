"""The location of a recurrent network step by step."""

from geomfeat.location.over_steps._locate_by_step import locate_by_step

__all__ = ["locate_by_step"]

"""The validation of the location: families of networks whose richness is known."""

from geomfeat.comparison.validation.campaign import Validation, validate

__all__ = ["Validation", "validate"]

"""The validation of the location: families of networks whose richness is known."""

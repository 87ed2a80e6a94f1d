"""The tests mirror the package; what they share is here, in `reference/` and in `zoo.py`."""

from tests import shapes as shapes  # looked up as an attribute by the checker of shape annotations

"""The linearized network and how far a trained one departs from it."""

from geomfeat.regimes.linearization.agreement import LazyAgreement, lazy_agreement
from geomfeat.regimes.linearization.kernel_limit import LazyLimit, lazy_limit
from geomfeat.regimes.linearization.linearized_module import Linearised, linearisation_gaps, linearize

__all__ = [
    "LazyAgreement",
    "LazyLimit",
    "Linearised",
    "lazy_agreement",
    "lazy_limit",
    "linearisation_gaps",
    "linearize",
]

"""How to make a training lazier or richer: what to aim at, and the settings that get there."""

from geomfeat.location.advice.change import AdvisedChange
from geomfeat.location.advice.rescaling import Rescaling, rescaled_groups
from geomfeat.location.advice.result import Advice

__all__ = ["Advice", "AdvisedChange", "Rescaling", "rescaled_groups"]

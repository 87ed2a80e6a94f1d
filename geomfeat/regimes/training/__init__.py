"""Training at a chosen richness: output scale, optimizers, learning rates by layer; and ordinary training."""

from geomfeat.regimes.training.options import TrainOptions
from geomfeat.regimes.training.output_multiplier import with_scaled_outputs
from geomfeat.regimes.training.plain_options import PlainOptions
from geomfeat.regimes.training.plain_training import PlainTraining, train_plainly
from geomfeat.regimes.training.result import Trained, scaled_outputs
from geomfeat.regimes.training.richness import Richness, gamma_from
from geomfeat.regimes.training.scaled_module import AtRichness, at_richness, parameter_groups, relative_loss
from geomfeat.regimes.training.scaled_training import train_at_gamma
from geomfeat.regimes.training.series import TrainingSeries, training_series
from geomfeat.regimes.training.token_targets import next_tokens

__all__ = [
    "AtRichness",
    "PlainOptions",
    "PlainTraining",
    "Richness",
    "TrainOptions",
    "Trained",
    "TrainingSeries",
    "at_richness",
    "gamma_from",
    "next_tokens",
    "parameter_groups",
    "relative_loss",
    "scaled_outputs",
    "train_at_gamma",
    "train_plainly",
    "training_series",
    "with_scaled_outputs",
]

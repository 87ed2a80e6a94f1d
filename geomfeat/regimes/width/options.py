"""Options of the trainings at several widths."""

import math
from dataclasses import dataclass

from geomfeat.errors import BadInput
from geomfeat.models.functional import Readout
from geomfeat.regimes.training.objective import Loss


@dataclass(frozen=True)
class WidthOptions:
    """How `width_scaling`, `estimate_r` and `coordinate_check` train the networks of every width.

    Attributes:
        lr: eta0, positive. Default None: see `learning_rates`; about the same at all widths in NTK parameterization,
            and falling as 1 / width in the standard one.
        loss: as for `train_at_gamma`; default "mse".
        readout: (output, inputs) -> (n, C); default None: the output itself.
        batched: train and measure seeds side by side by vmap; default None: try. The numbers are the same.

    Raises BadInput for a rate that is not positive.

    >>> WidthOptions(lr=0.1).loss
    'mse'
    """

    lr: float | None = None
    loss: Loss = "mse"
    readout: Readout | None = None
    batched: bool | None = None

    def __post_init__(self) -> None:
        if self.lr is not None and not (self.lr > 0 and math.isfinite(self.lr)):
            raise BadInput(f"lr={self.lr} must be positive, or None")

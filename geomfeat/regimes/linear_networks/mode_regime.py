"""Which modes of two adjacent linear layers are lazy and which are rich, from their weights alone.

For a singular triplet (s, u, v) of W2 W1, let p = W1 v and q = W2' u: the mode's input and output weights in the hidden
layer, with p . q = s. Gradient flow from small random weights keeps (|p|^2 + |q|^2)^2 / 4 - s^2 at its initial value,
about (sigma^2 w)^2 (M1^2 - A' A in `geomfeat.regimes.linear_networks.mixed_dynamics`), so

    rho = s / sqrt(((|p|^2 + |q|^2) / 2)^2 - s^2)

reads s / (sigma^2 w), how far the mode is above the threshold of Tu et al. 2024, without the weights at the start.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.charts import Plot
from geomfeat.display import PlottableResult, line_chart
from geomfeat.numerics import WORKING
from geomfeat.precision import coarser, precision_of, roundings
from geomfeat.regimes.linear_networks.balance import chained

# Half a decade below and above rho = 1, where the mode's strength is its threshold sigma^2 w.
LAZY, RICH = 1 / 3, 3.0
# The difference under the root is lost to rounding near here for weights in float32.
LARGEST = 1e3


@dataclass(frozen=True, eq=False)
class ModeRegimes(PlottableResult):
    """The modes of a pair of linear layers, strongest first; float64.

    Attributes:
        strengths: (k,) singular values s of W2 W1, those above rounding.
        rho: (k,) s / (sigma^2 w), from 0 to 1000 (where rounding leaves no more): lazy below 1/3, rich above 3.
        imbalance: (k,) (|q|^2 - |p|^2) / (|q|^2 + |p|^2), from -1 (all weight in the first layer) to 1.

    `to_frame()`: one row for each mode, strongest first: strengths, rho, imbalance.
    """

    strengths: Tensor
    rho: Tensor
    imbalance: Tensor

    _rows = ("strengths", "rho", "imbalance")

    @property
    def lazy(self) -> Tensor:
        """(k,) which modes are lazy."""
        return self.rho < LAZY

    @property
    def rich(self) -> Tensor:
        """(k,) which modes are rich."""
        return self.rho > RICH

    def _chart(self) -> Plot:
        modes = range(1, len(self.rho) + 1)
        return line_chart("lazy below 1/3, rich above 3", "mode", "rho", modes, self.rho, log_y=True)


def mode_regimes(first: Float[Tensor, "w i"], second: Float[Tensor, "o v"]) -> ModeRegimes:
    """How lazy or rich every mode of W2 W1 is (Tu, Aranguri and Jacot 2024, section 2, read from the final weights).

    Assumes that both layers were trained together by gradient descent from small independent random weights, in steps
    that are small for the strongest mode (learning rate times s of .2 reads .1 decades too high), without weight
    decay: both balance the layers, and so make modes look richer. Then rho is right to about .03 decades below 100 in
    linear networks. In a deeper network the layers outside the pair only shape its inputs and errors; a nonlinearity
    between the two breaks the conservation, and rho is then a description of the weights.

    Args:
        first: (width, inputs) W1, second: (outputs, width) W2. A product of zero has no modes.

    Raises BadInput for weights that do not chain or hold NaN.

    >>> import torch
    >>> found = mode_regimes(torch.diag(torch.tensor([3.0, 1.0])), torch.diag(torch.tensor([3.0, 0.1])))
    >>> [round(float(v), 3) for v in found.strengths], [round(float(v), 2) for v in found.rho]
    ([9.0, 0.1], [1000.0, 0.2])
    """
    w1, w2 = chained(first, second)
    u, s, vh = torch.linalg.svd(w2 @ w1, full_matrices=False)
    # What training in the precision of the weights leaves of modes that are none.
    of_spread, of_size = roundings(coarser(precision_of(first), precision_of(second)))
    kept = s > max(of_spread, of_size, max(w1.shape) * torch.finfo(WORKING).eps) * s[0]
    u, s, vh = u[:, kept], s[kept], vh[kept]
    p2, q2 = (w1 @ vh.mT).square().sum(0), (w2.mT @ u).square().sum(0)
    half = (p2 + q2) / 2
    # (h - s)(h + s) keeps digits that h^2 - s^2 would lose; h >= s by Cauchy-Schwarz, but for rounding.
    rest = ((half - s).clamp_min(0) * (half + s)).sqrt()
    return ModeRegimes(s, (s / rest.clamp_min(1e-300)).clamp_max(LARGEST), (q2 - p2) / (q2 + p2))

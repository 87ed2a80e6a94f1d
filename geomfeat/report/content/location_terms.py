"""What the numbers of a location mean: the first terms of the glossary of a page."""

from __future__ import annotations

from geomfeat.location.kernel_demand import CHANGED, CHANGED_ON_TARGET
from geomfeat.location.regimes import (
    ABOVE_FLOOR,
    BEYOND_DEMAND,
    FEATURES_ONLY,
    KERNEL_MOVED,
    KERNEL_ONLY,
    KERNEL_RESTS,
    LARGE_CHANGE,
    LAZY_BELOW,
    RICH_DEMAND,
    RICH_MOVEMENT,
    SMALL_CHANGE,
)


def _rule() -> str:
    """The rule that chooses the regime, in words."""
    return (
        f"Features are at rest if R and M are below {LAZY_BELOW:g}, and moved if R is above {RICH_DEMAND:g} or M above "
        f"{RICH_MOVEMENT:g}. The kernel is at rest if κ is below {KERNEL_RESTS:g} and it changed by less than "
        f"{100 * SMALL_CHANGE:.0f} %, and moved if κ is above {KERNEL_MOVED:g} or it changed by more than "
        f"{100 * LARGE_CHANGE:.0f} %. Lazy: both at rest. Rich: both moved, or the kernel moved and features are "
        f"between. '{FEATURES_ONLY}' and '{KERNEL_ONLY}': one of them. Transition: between. Frozen: no hidden feature "
        f"moved. Moved by the optimizer: features or kernel moved {BEYOND_DEMAND:g} decades further than demanded, "
        f"where the demand is small (R below {RICH_DEMAND:g}, "
        f"κ below {KERNEL_RESTS:g}). Without the initial weights R and κ decide; for a layer, R and M."
    ).replace("-", "−")


# (name, meaning, source), in the order of a page.
LOCATION_TERMS = (
    ("Richness R (demand)", "How far the hidden features would have had to move, relative to their size, if the "
     "network were linear in its weights and learned the same change of its function; log10, mean over hidden layers. "
     "0 = by their own size, −1 = by a tenth of it. Needs no labels and no calibration.",
     "linear response of the tangent features, after Jacot et al. 2018 and Chizat et al. 2019"),
    ("Movement M", "How far the hidden features moved, relative to their size before training; log10, mean over "
     "hidden layers.", "relative feature change, after Chizat et al. 2019"),
    ("Excess E = M − R", "Movement beyond what the learned function required. Near 0 in lazy networks, negative in "
     "rich ones (rich learning needs less movement than linear learning would), positive after large steps, noise "
     "or decay.", "difference of the two above"),
    ("Tangent space", "The directions in which the network can move to first order: one for every parameter that "
     "moved (or is assumed to have). Demands are computed in it; what training kept fixed is no part of it.",
     "Jacot et al. 2018"),
    ("Metric", "By how much a parameter moves for a gradient of one, relative to the others: the learning rates by "
     "group and, for an adaptive optimizer, its scaling. 'Plain: not known': all rates are taken to be equal. Demands "
     "hold for this metric.", "gradient flow in the optimizer's coordinates"),
    ("Kernel demand κ", "By what factor, in decades, the learned change exceeds the largest one for which the tangent "
     f"kernel stays put (changes by less than {100 * CHANGED:.0f} % of its size) along the linear response. Far below "
     "0 a model that is linear in its weights can learn the same; above 0 it cannot. −∞: the kernel cannot change.",
     "the criterion of Chizat et al. 2019, section 1.2, measured instead of bounded"),
    ("Kernel demand on the target κ_a", "The same for the part of the kernel that acts on the learned change, up to a "
     f"change of {100 * CHANGED_ON_TARGET:.0f} %. It predicts the linearisation gap best, and grows with the number of "
     "probes.", "as κ, for the product of the kernel with its coefficients"),
    ("Kernel change", "How much the tangent kernel changed in training, relative to its size before: measured, with "
     "the initial weights.", "|K_T − K_0| / |K_0|, Frobenius norms"),
    ("Kernel excess E_K", "log10 of the kernel change, less that of the change that the linear response alone would "
     "have brought: above 0 after large steps, noise or decay.", "difference of two logarithms"),
    ("Linearisation gap", "What the network linearised at its initial weights, moved to the weights after training, "
     "leaves unexplained of the learned change. 0: exactly linear; 1: as wrong as if nothing had been learned.",
     "|f_T − f_lin| / |f_T − f_0| on the probes"),
    ("Interval", "90 % interval of R or a number of the kernel, from resampling the probe inputs and, where they are "
     "used, the re-initialisations.", "bootstrap"),
    ("Floor, 'at most'", "R between two fresh re-initialisations: its value when nothing was learned. Within "
     f"{ABOVE_FLOOR:g} decades of the floor, R is only an upper bound.", "measured for each model"),
    ("Regimes", _rule(), "thresholds chosen on one half of the validated families, judged on the other by what "
     "happened to kernel and linearisation"),
)  # fmt: skip

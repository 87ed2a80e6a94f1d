"""How far a kernel or the features of a layer moved, each number with a jackknife standard error over samples."""

from collections.abc import Callable

import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.similarity._cka import as_gram, as_kernel, cka
from geomfeat.numerics import WORKING, double_centred, jackknife_stderr
from geomfeat.precision import near_one, unit_of
from geomfeat.statistics.group_errors import errors_wanted
from geomfeat.types import Estimate, Kernel, Points, as_points


def relative_change(new: Points, old: Points) -> Estimate:
    """|new - old| / |old| (Frobenius) of features or outputs on the same samples.

    Raises BadInput for different shapes, or where `old` is zero everywhere.

    >>> relative_change(3 * torch.ones(8, 2), torch.ones(8, 2)).value
    2.0
    """
    new, old = as_points(new, "new"), as_points(old, "old")
    if new.shape != old.shape:
        raise BadInput(
            f"features of shape {tuple(new.shape)} and {tuple(old.shape)} have no difference: compare them by cka()"
        )
    old = old.to(WORKING)
    moved, size = (new.to(WORKING) - old).square().sum(1), old.square().sum(1)
    if not size.sum() > 0:
        raise BadInput("the old features are zero everywhere (a dead layer): their relative change is undefined")
    # Differences of sums: where one sample carries the whole change, rounding may leave less than 0.
    without = lambda: ((moved.sum() - moved).clamp_min(0) / (size.sum() - size)).sqrt()  # noqa: E731
    return Estimate(float((moved.sum() / size.sum()).sqrt()), _stderr(without))


def kernel_relative_change(k: Kernel | Tensor, k0: Kernel | Tensor) -> Estimate:
    """|K - K0| / |K0| (Frobenius): 0 for an unmoved kernel, unbounded; resolves the lazy end.

    The standard error is a jackknife over samples. Raises BadInput for different shapes or a zero K0.

    >>> kernel_relative_change(3 * torch.eye(4), torch.eye(4)).value
    2.0
    """
    new, old = _two(k, k0)
    unit = unit_of(old)
    moved, moved_without = _products((new - old) / unit, (new - old) / unit)
    size, size_without = _products(old / unit, old / unit)
    return Estimate(float((moved / size).sqrt()), _stderr(lambda: (moved_without.clamp_min(0) / size_without).sqrt()))


def kernel_distance(k: Kernel | Tensor, k0: Kernel | Tensor) -> Estimate:
    """1 - <K, K0> / (|K| |K0|) (Fort et al. 2020, eq. 3): 0 for a rescaled kernel, at most 1 for positive ones.

    Computed as |K/|K| - K0/|K0||^2 / 2, which is the same number without the cancellation near 0.

    >>> kernel_distance(3 * torch.eye(4), torch.eye(4)).value
    0.0
    """
    new, old = _two(k, k0)
    a, b = _unit(new, "k"), _unit(old, "k0")

    def without() -> Tensor:
        both, first, second = (_products(one, other)[1] for one, other in ((a, b), (a, a), (b, b)))
        return 1 - both / (first * second).sqrt()

    return Estimate(distance_of_units(a, b), _stderr(without))


def kernel_angle(k: Kernel | Tensor, k0: Kernel | Tensor) -> Estimate:
    """arccos <K, K0> / (|K| |K0|) in radians (Cristianini et al. 2001, eq. 1): 0 for a rescaled kernel, a metric.

    At most pi/2 for positive kernels. Linear in a small movement, where `kernel_distance` is quadratic. Computed from
    the chord between the unit kernels, since arccos loses all digits below 1e-8.

    >>> round(kernel_angle(torch.eye(4), torch.ones(4, 4)).value, 4)  # cosine 1/2
    1.0472
    """
    new, old = _two(k, k0)
    unit_new, unit_old = _unit(new, "k"), _unit(old, "k0")
    chord, opposite = unit_new - unit_old, unit_new + unit_old

    def without() -> Tensor:
        # |a||b| - a.b = (|a - b|^2 - (|a| - |b|)^2) / 2 gives the angles without a sample, again without cancellation.
        a, b = (_products(unit, unit)[1].clamp_min(0).sqrt() for unit in (unit_new, unit_old))
        longer = _products(chord, opposite)[1] / (a + b)
        squared = ((_products(chord, chord)[1] - longer.square()) / (a * b)).clamp(0, 4)
        return 2 * torch.atan2(squared.sqrt(), (4 - squared).sqrt())

    return Estimate(_angle(chord, opposite), _stderr(without))


def unit_kernel(gram: Tensor, name: str = "kernel") -> Tensor:
    """A kernel that is not zero over its norm: what `kernel_distance` and `kernel_angle` compare, once for many."""
    return _unit(as_gram(gram, name), name)


def distance_of_units(a: Tensor, b: Tensor) -> float:
    """`kernel_distance` of two kernels by `unit_kernel`."""
    return 0.5 * float((a - b).square().sum())


def angle_of_units(a: Tensor, b: Tensor) -> float:
    """`kernel_angle` of two kernels by `unit_kernel`."""
    return _angle(a - b, a + b)


def _angle(chord: Tensor, opposite: Tensor) -> float:
    return 2 * float(torch.atan2(chord.norm(), opposite.norm()))


def kernel_distance_centred(k: Kernel | Tensor, k0: Kernel | Tensor) -> Estimate:
    """1 - CKA(K, K0) with the BIASED estimator (Kornblith et al. 2019), in [0, 1]; blind to shifts and scale.

    Computed as |c(K)/|c(K)| - c(K0)/|c(K0)||^2 / 2, c the double centring. Raises BadInput for a kernel that is
    constant, as of a network whose outputs do not depend on its inputs.

    >>> kernel_distance_centred(torch.eye(4) + 5, torch.eye(4)).value < 1e-12
    True
    """
    new, old = _two(k, k0)
    estimate = cka(as_kernel(k, "k"), as_kernel(k0, "k0"), estimator="biased")
    units = _unit(double_centred(new), "k"), _unit(double_centred(old), "k0")
    return Estimate(0.5 * float((units[0] - units[1]).square().sum()), estimate.stderr)


def _two(k: Kernel | Tensor, k0: Kernel | Tensor) -> tuple[Tensor, Tensor]:
    new, old = as_gram(k, "k"), as_gram(k0, "k0")
    if new.shape != old.shape:
        raise BadInput(f"k is {tuple(new.shape)} and k0 {tuple(old.shape)}: compute both on the same samples")
    if not old.any():
        raise BadInput("k0 is zero everywhere (no parameter acts on the output): its movement is undefined")
    return new, old


def _unit(gram: Tensor, name: str) -> Tensor:
    if not gram.any():
        raise BadInput(f"{name} is zero everywhere (no parameter acts on the output): it has no direction")
    gram = near_one(gram)
    return gram / gram.norm()


def _products(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """<A, B> over all samples, and over the others for each sample left out."""
    product = a * b
    total = product.sum()
    return total, total - product.sum(0) - product.sum(1) + product.diagonal()


def _stderr(without: Callable[[], Tensor]) -> float | None:
    """Jackknife error; None where it is not wanted, or means nothing (few samples, or one that carries everything)."""
    if not errors_wanted():
        return None
    left_out = without()
    return jackknife_stderr(left_out) if len(left_out) >= 6 and bool(torch.isfinite(left_out).all()) else None

"""Similarity of two kernels: HSIC, centred kernel alignment, uncentred alignment.

One set of functions for layers, tangent kernels and label kernels.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.dimension.leave_out_spectra import known_of
from geomfeat.geometry.similarity._hsic import Centred, Moments, check_estimator
from geomfeat.geometry.similarity.gram import one_hot, rbf_gram
from geomfeat.labels import as_goal
from geomfeat.numerics import WORKING, as_tensor, jackknife_stderr, require_finite
from geomfeat.precision import near_one
from geomfeat.statistics.group_errors import errors_over_groups, errors_wanted
from geomfeat.statistics.repeated_samples import repeats_once
from geomfeat.types import Estimate, Kernel, as_layer

KERNELS = ("linear", "rbf")
# Share of its terms below which a sum of them is rounding.
CANCELLED = 64 * torch.finfo(WORKING).eps


def hsic(a: Any, b: Any, *, kernel: str = "linear", estimator: str = "unbiased", bandwidth: float = 0.5) -> float:
    """Hilbert-Schmidt independence criterion of two representations or kernels; never clamped, so it may be negative.

    Arguments as in `cka`. "biased": tr(KHLH)/(n-1)^2 (Gretton et al. 2005, eq. 9). "unbiased": Song et al. 2012, eq. 5.

    >>> x = torch.tensor([[0.0], [1.0], [2.0]])
    >>> hsic(x, x, estimator="biased")
    1.0
    """
    (a, b), _ = _independent(a, b, estimator, noted=False)
    left, right = _pair(a, b, kernel, estimator, bandwidth)
    return Moments.between(left, right).hsic(estimator)


def cka(a: Any, b: Any, *, kernel: str = "linear", estimator: str = "unbiased", bandwidth: float = 0.5) -> Estimate:
    """Centred kernel alignment HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) (Kornblith et al. 2019, eq. 4).

    Args:
        a, b: Representations, or arrays (n, d) of features: `kernel` is computed from their rows. Kernels: their Gram
            matrices are used directly. The same n samples in the same order.
        kernel: "linear", or "rbf" with `bandwidth` times the median distance (see `rbf_gram`).
        estimator: "unbiased" (Song et al. 2012; n >= 4; about 0 for independent features, also when they are many
            more than samples; may be negative) or "biased" (Kornblith et al. 2019; in [0, 1] for positive kernels;
            near 1 for any two wide layers).

    Returns an Estimate, which is a float where one is wanted: 1 for equal geometry up to rotation, scale and shift. Its
    standard error is a jackknife: over groups where the Representations have any, else over samples (None below 6 of
    them, where it means nothing). It is exact for fixed Gram matrices: the bandwidth of "rbf" is not refitted.
    Raises BadInput for different numbers of samples, too few of them, and constant features (which have no geometry to
    compare).

    The unbiased estimate assumes independent samples: with repeated samples it is wrong, for wide layers by .5 if every
    sample occurs twice. Copies within one of the groups of a Representation count once;
    the note says how many others there are.

    >>> x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [2.0, 2.0], [1.0, 3.0]])
    >>> round(cka(x, 3 * x.flip(1) + 1), 12)
    1.0
    """
    sides = [side if isinstance(side, Kernel) else as_layer(side, name) for name, side in (("a", a), ("b", b))]
    options = {"kernel": kernel, "estimator": estimator, "bandwidth": bandwidth}
    return errors_over_groups(_over_samples, sides, options, 4 if estimator == "unbiased" else 2)


def _over_samples(a: Any, b: Any, kernel: str, estimator: str, bandwidth: float) -> Estimate:
    """`cka` with its error over samples, whatever their groups."""
    (a, b), note = _independent(a, b, estimator, noted=True)
    left, right = _pair(a, b, kernel, estimator, bandwidth, scaled=True)
    own_a, own_b = Moments.between(left, left), Moments.between(right, right)
    cross = Moments.between(left, right)
    for name, moments, side in (("a", own_a, left), ("b", own_b, right)):
        _require_geometry(name, moments, side, estimator)
    value = cross.hsic(estimator) / (own_a.hsic(estimator) * own_b.hsic(estimator)) ** 0.5
    # Both are inner products of (U-)centred matrices, so only rounding can lead beyond -1 and 1.
    value = max(-1.0, min(1.0, value))
    if left.n < 6 or not errors_wanted():
        return Estimate(value, note=note)
    scale = own_a.leave_one_out(estimator) * own_b.leave_one_out(estimator)
    if not (scale > 0).all():  # one sample carries the whole geometry: its spread cannot be estimated
        return Estimate(value, note=note)
    return Estimate(value, jackknife_stderr(cross.leave_one_out(estimator) / scale.sqrt()), note=note)


def target_alignment(kernel: Kernel | Tensor, targets: Any, *, estimator: str = "unbiased") -> Estimate:
    """Centred alignment of a kernel (n, n) with its targets' kernel YY' (Cortes et al. 2012, eq. 4), in [-1, 1].

    Args:
        kernel: Between n samples, as a tangent kernel's trace over outputs.
        targets: (n,) whole numbers: classes, taken as one-hot. (n,) or (n, C) other numbers: values.
        estimator: As in `cka`: "unbiased" is about 0 for a kernel that knows nothing of the targets, "biased" above.

    Comes with a jackknife standard error over samples. BadInput for targets or a kernel that are constant.

    >>> labels = torch.arange(8) % 2
    >>> round(target_alignment((labels[:, None] == labels).double() + 7, labels).value, 12)
    1.0
    """
    gram = as_gram(kernel)
    y = as_goal(targets, "targets").to(gram.device)
    if y.ndim not in (1, 2) or 0 in y.shape or len(y) != len(gram):
        raise BadInput(
            f"targets of shape {tuple(y.shape)} for a kernel of {len(gram)} rows: one row for each sample is needed, "
            "and of a tangent kernel its trace over outputs (outputs='trace')"
        )
    if bool((y == y[0]).all()):
        raise BadInput("all targets are the same: pass samples of at least two classes or values")
    if y.ndim == 1:
        y = y[:, None] if y.is_floating_point() else one_hot(y)
    return cka(as_kernel(kernel), y, estimator=estimator)


def kernel_alignment(a: Kernel | Tensor, b: Kernel | Tensor) -> float:
    """Uncentred alignment <K, L> / (|K| |L|) of two kernels (n, n) (Cristianini et al. 2001, eq. 1).

    Not a measure of learning by itself: a CONSTANT kernel has alignment 1/sqrt(C) with C balanced classes. See `cka`.

    >>> round(kernel_alignment(torch.eye(2), torch.ones(2, 2)), 4)
    0.7071
    """
    k, l = as_gram(a, "a"), as_gram(b, "b")
    if k.shape != l.shape:
        raise BadInput(f"kernels of shape {tuple(k.shape)} and {tuple(l.shape)}: compare them on the same samples")
    k, l = near_one(k), near_one(l)
    norms = k.norm() * l.norm()
    if not norms > 0:
        raise BadInput("a kernel is zero everywhere, so its alignment is undefined")
    return float((k * l).sum() / norms)


def as_kernel(kernel: Kernel | Tensor, name: str = "kernel") -> Kernel:
    """A Kernel, which knows the precision that it came in."""
    return kernel if isinstance(kernel, Kernel) else Kernel(kernel, name)


def as_gram(kernel: Kernel | Tensor, name: str = "kernel") -> Float[Tensor, "n n"]:
    """The symmetric Gram matrix of a Kernel or tensor in float64; BadInput when it is not one."""
    gram = as_tensor(kernel.gram if isinstance(kernel, Kernel) else kernel, name, WORKING)
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1]:
        raise BadInput(f"{name} must be a square kernel (n, n) between one set of samples, got {tuple(gram.shape)}")
    require_finite(gram, f"kernel {name!r}")
    if (gram - gram.T).abs().max() > 1e-6 * gram.abs().max():
        raise BadInput(
            f"{name} is not symmetric, so it is not a kernel: pass a Gram matrix, or features (n, d) to cka()"
        )
    return gram


def _independent(a: Any, b: Any, estimator: str, noted: bool) -> tuple[list[Any], str]:
    """Both without repeats within groups, and a note on copies; as they are for the biased estimate."""
    return repeats_once(a, b, noted=noted) if estimator == "unbiased" else ([a, b], "")


def _pair(
    a: Any, b: Any, kernel: str, estimator: str, bandwidth: float, scaled: bool = False
) -> tuple[Centred, Centred]:
    if kernel not in KERNELS:
        raise BadInput(f"kernel must be one of {KERNELS}, got {kernel!r}")
    left, right = _centred(a, "a", kernel, bandwidth, scaled), _centred(b, "b", kernel, bandwidth, scaled)
    if left.n != right.n:
        raise BadInput(f"a has {left.n} samples, b has {right.n}: compare them on the same inputs in the same order")
    check_estimator(estimator, left.n)
    return left, right


def _centred(value: Any, name: str, kernel: str, bandwidth: float, scaled: bool) -> Centred:
    if isinstance(value, Kernel):
        gram = as_gram(value, name)
        return Centred.of_gram(near_one(gram) if scaled else gram, value.precision)
    layer = as_layer(value, name)
    if kernel == "linear":
        known = known_of(layer) if scaled else None
        return Centred.of_layer(known) if known else Centred.of_features(layer.x, layer.precision, near_one=scaled)
    return Centred.of_gram(rbf_gram(layer, bandwidth))


def _require_geometry(name: str, moments: Moments, side: Centred, estimator: str) -> None:
    """BadInput where the centred kernel is zero up to rounding: HSIC(K, K) is a squared norm, or nearly."""
    n = moments.n
    whole = moments.hsic("biased") * (n - 1) ** 2
    if not whole > side.rounding**2:
        raise BadInput(f"{name} is constant over the samples (a dead or saturated layer): CKA with it is undefined")
    # The unbiased sum is what is left of terms of the size of the biased one.
    left = moments.hsic("unbiased") * n * (n - 3) if estimator == "unbiased" else whole
    if not left > max(side.rounding**2, CANCELLED * whole):
        raise BadInput(f"all pairs of samples of {name} are equally alike: no geometry to compare")

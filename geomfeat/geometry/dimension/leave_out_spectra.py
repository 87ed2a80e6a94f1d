"""The covariance of a point cloud, whole and without each tenth of its samples, computed once for all its numbers.

The errors of what comes from a spectrum are a jackknife over ten parts of the samples. Their covariances are what is
left of the whole one when a part's share is taken off: no part of the data is decomposed again, and no number of one
layer forms them a second time. Their eigenvalues are those of products, to about 1e-15 of the largest one: more than an
error needs. The values themselves come from singular values of the points.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import get_ident
from typing import Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from geomfeat._numba.threads import in_pieces
from geomfeat.errors import BadInput
from geomfeat.geometry.dimension.own_dots import own_dots
from geomfeat.numerics import eigenvalues, jackknife_stderr, own_products
from geomfeat.precision import Spread
from geomfeat.statistics.group_errors import errors_wanted
from geomfeat.types import Points, Representation, as_layer

# Parts of the data that the jackknife leaves out in turn.
GROUPS = 10
# Eigenvalues of a product below this share of the largest are known to fewer than three digits.
PRODUCT_DIGITS = 1e-12
MOST_KEPT = 2**26  # numbers of a layer whose centred copy is kept from one measure to the next
T = TypeVar("T")


class NoVariance(BadInput):
    """All points coincide (up to rounding), so there is no spectrum."""


def spread_of(x: Points | Spread) -> Spread:
    """Centred points with their rounding; NoVariance if rounding is all there is."""
    if isinstance(x, Spread):
        return _varying(x)
    layer = as_layer(x)
    return _varying(Spread.of(layer.x, layer.precision), layer.precision)


def _varying(spread: Spread, precision: torch.dtype | None = None) -> Spread:
    if not spread.varies:
        came = f" in {str(precision).removeprefix('torch.')}" if precision is not None else ""
        raise NoVariance(
            f"all {len(spread.x)} points coincide (up to rounding{came}): "
            "the layer is constant on these inputs; check them, or leave the layer out"
        )
    return spread


@dataclass(frozen=True)
class Moments:
    """Sums over n centred points x_i, with S = sum x_i x_i': trace S, |S|^2 (Frobenius), and sum |x_i|^4."""

    n: int
    trace: float
    square: float
    fourth: float


@dataclass(frozen=True, eq=False)
class LeaveOut:
    """Points less their mean, and what remains of their covariance without each part of them."""

    spread: Spread

    @cached_property
    def singular_values(self) -> Float[Tensor, "m"]:
        """Of the whole, descending."""
        return torch.linalg.svdvals(self.spread.x)

    @cached_property
    def product(self) -> Float[Tensor, "r r"]:
        """The smaller of the two products of the points, X'X or XX', which have the same eigenvalues but for zeros."""
        x = self.spread.x
        return own_products(x if x.shape[1] <= x.shape[0] else x.T)

    @cached_property
    def dots(self) -> Float[Tensor, "n"]:
        """sum_j K_ij^2 of the kernel K = XX'."""
        x = self.spread.x
        return own_dots(x, self.product if x.shape[1] <= x.shape[0] else None)

    @property
    def moments(self) -> list[Moments] | None:
        """Those of the points without each part in turn; None where fewer than two points or rounding alone remain."""
        if "_with_eigenvalues" in vars(self):
            return None if self._with_eigenvalues is None else [moments for moments, _ in self._with_eigenvalues]
        return self._moments

    @property
    def eigenvalues(self) -> list[Float[Tensor, "r"]] | None:
        """Eigenvalues over the largest one, without each part in turn, descending; those of rounding left out."""
        return None if self._with_eigenvalues is None else [values for _, values in self._with_eigenvalues]

    @cached_property
    def _moments(self) -> list[Moments] | None:
        return self._each(lambda _, moments: moments)

    @cached_property
    def _with_eigenvalues(self) -> list[tuple[Moments, Tensor]] | None:
        """Both: what remains of the covariance costs more than its moments, and is too large to be kept."""

        def both(scatter: Tensor, moments: Moments) -> tuple[Moments, Tensor]:
            found = eigenvalues(scatter).flip(0)
            least = self._noise(moments.n) ** 2
            return moments, found[(found > least) & (found > PRODUCT_DIGITS * found[0])] / found[0]

        return self._each(both)

    def _noise(self, n: int) -> float:
        """How large a singular value of n of the points can be of rounding alone."""
        return self.spread.of_entry * n**0.5 + self.spread.of_point

    def _each(self, of: Callable[[Tensor, Moments], T]) -> list[T] | None:
        """of(scatter (r, r), its moments) of the points without each part, about their own mean."""
        x = self.spread.turned().x
        whole = self.product if x is self.spread.x else own_products(x)
        count = min(GROUPS, len(x))
        sizes = torch.tensor([len(x[g::count]) for g in range(count)])
        if len(x) - int(sizes.max()) < 2:
            return None
        gone = torch.stack([x[g::count].sum(0) for g in range(count)])
        means = (x.sum(0) - gone) / (len(x) - sizes)[:, None].to(x)
        lengths, along = x.square().sum(1), x @ means.T
        found: list[T | None] = [None] * count

        def one(g: int, _: int) -> None:
            n, mean = len(x) - int(sizes[g]), means[g]
            scatter = (whole - own_products(x[g::count])).sub_(torch.outer(mean, mean), alpha=n)
            trace = float(scatter.diagonal().sum())
            if trace > n * self.spread.of_point**2:
                squares = (lengths - 2 * along[:, g] + mean @ mean).clamp_min_(0).square_()
                squares[g::count] = 0
                found[g] = of(scatter, Moments(n, trace, float(scatter.square().sum()), float(squares.sum())))

        in_pieces(one, count, x.device)
        parts = [part for part in found if part is not None]
        return parts if len(parts) == count else None


class _Last(Generic[T]):
    """What each thread made of one tensor last, while that tensor lives and is as it was.

    Entries are replaced as a whole, and each by its own thread: threads at different tensors keep theirs.
    """

    def __init__(self) -> None:
        self.entries: dict[int, tuple[weakref.ref[Tensor], int, T]] = {}

    def get(self, x: Tensor, make: Callable[[], T]) -> T:
        """make(), unless it was made of x already. Nothing is kept of tensors that do not say when they change."""
        if x.is_inference() or x.numel() > MOST_KEPT:
            return make()
        found = self.known(x)
        if found is None:
            self.entries.pop(get_ident(), None)  # not two at once
            found = make()
            self.entries[get_ident()] = weakref.ref(x, self._drop), x._version, found
        return found

    def known(self, x: Tensor) -> T | None:
        """What was made of x, if that was the last of a thread."""
        for kept, version, made in list(self.entries.values()):
            if kept() is x and not x.is_inference() and version == x._version:
                return made
        return None

    def _drop(self, gone: weakref.ref[Tensor]) -> None:
        for thread, (kept, *_) in list(self.entries.items()):
            if kept is gone:
                self.entries.pop(thread, None)


_LAST: _Last[LeaveOut] = _Last()


def left_out(layer: Representation) -> LeaveOut:
    """Of a layer: kept until its thread asks for another layer's, so that all its numbers share one.

    NoVariance for none.
    """
    found = kept_of(layer)
    _varying(found.spread, layer.precision)
    return found


def kept_of(layer: Representation) -> LeaveOut:
    """The same also of points that coincide."""
    return _LAST.get(layer.x, lambda: LeaveOut(Spread.of(layer.x, layer.precision)))


def known_of(layer: Representation) -> LeaveOut | None:
    """That of a layer if it was asked for last, for numbers of several layers: nothing is made or replaced."""
    return _LAST.known(layer.x)


def jackknife(values: Sequence[float] | None) -> float | None:
    """Standard error from the values without each part; None where these are not known or not finite.

    >>> jackknife([1.0, 2.0, 3.0]), jackknife(None), jackknife([1.0, float("inf")])
    (1.154..., None, None)
    """
    if values is None or not errors_wanted():
        return None
    out = jackknife_stderr(values)
    return out if np.isfinite(out) else None

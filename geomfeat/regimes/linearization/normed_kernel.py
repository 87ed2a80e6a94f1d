"""A guess at the tangent kernel of a network whose last linear layer reads features that were normalised.

Layer norms and RMS norms give every sample's features one size: a_i = s x_i, |x_i| = 1, but for a gain, which is put
into W here. Whatever parameters before the norm do, a_i moves across x_i only. Where these would move features by
about theta (x) I before the norm, the kernel is, with P_i = I - x_i x_i',

    K ~ H (x) I + (I (x) W) B (I (x) W'),     B_ij = theta_ij P_i P_j.

Without the P_i this is a `KroneckerKernel`, which takes the outputs W x_i for as easy to change as others, though they
are among the hardest: a search guided by it takes twice as many products with K. All functions of this guess are had
from the Kronecker kernel by a few products, in coordinates of W's range and of what a change has outside of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from geomfeat.numerics import WORKING
from geomfeat.regimes.linearization.guided_response import GuidedSearch
from geomfeat.regimes.linearization.kronecker_kernel import KroneckerKernel

FINE = 0.002  # of a response to the guess, whose products cost little
NEAR, MOST = 1e-3, 60  # relative residual of a solution, and steps towards it


@dataclass(frozen=True, eq=False)
class NormedKernel:
    """H (x) I + (I (x) W) B (I (x) W').

    Attributes:
        plain: the same without the P_i: H (n, n), theta (n, n) and W (C, d). units: (n, d) the x_i.
    """

    plain: KroneckerKernel
    units: Tensor

    def restricted(self, rows: Tensor, root: Tensor) -> NormedKernel:
        """The same for some of the samples, each multiplied by its `root` (len(rows), 1)."""
        return NormedKernel(self.plain.restricted(rows, root), self.units[rows])

    def reachable(self, change: Tensor) -> Tensor:
        """(n, C) the part of a change that is not in the null space, which H decides where it is regular."""
        return self.plain.reachable(change)

    def flowed(self, change: Tensor, share: float) -> Tensor:
        """(n, C) coefficients of gradient flow towards a change, until this share of it is left, see `response`."""
        small, back = self._reduced(change)
        (found,) = GuidedSearch(self._product, small, self._small, FINE).responses((share,))
        return back(found.coefficients.view_as(small))

    def solved(self, shift: float, change: Tensor) -> Tensor:
        """(n, C) (K + shift)^-1 change, by conjugate gradients that the Kronecker kernel prepares."""
        left, back = self._reduced(change)
        enough = NEAR * float(left.norm())
        found, step, last = torch.zeros_like(left), torch.zeros_like(left), 1.0
        for _ in range(MOST):
            if float(left.norm()) <= enough:
                break
            prepared = self._small.solved(shift, left)
            size = float((left * prepared).sum())
            step = prepared + size / last * step
            product = self._product(step) + shift * step
            length = size / float((step * product).sum())
            found, left, last = found + length * step, left - length * product, size
        return back(found)

    @cached_property
    def _small(self) -> KroneckerKernel:
        """The Kronecker kernel in the coordinates of `_reduced`."""
        m = self.plain.outputs[0]
        outside = min(self.plain.weight.shape[0], len(self.units))
        axes = torch.eye(len(m) + outside, len(m), dtype=WORKING, device=m.device)
        found = KroneckerKernel(self.plain.own, self.plain.others, axes * m.sqrt())
        found.__dict__["outputs"] = m, axes
        found.__dict__["spectra"] = self.plain.spectra
        return found

    @cached_property
    def _features(self) -> Tensor:
        """(r, d) W' of the r directions of the outputs in W's range."""
        return self.plain.outputs[1].mT @ self.plain.weight

    def _reduced(self, change: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """(n, r + q) coordinates of a change: in W's range, and in axes of what it has outside; and the way back."""
        u = self.plain.outputs[1]
        within = change @ u
        axes, outside = torch.linalg.qr((change - within @ u.mT).mT)
        r = u.shape[1]
        return torch.cat([within, outside.mT], 1), lambda small: small[:, :r] @ u.mT + small[:, r:] @ axes.mT

    def _product(self, small: Tensor) -> Tensor:
        """K times a change in these coordinates."""
        r = len(self._features)
        moved = self.plain.others @ self._across(small[:, :r] @ self._features)
        out = self.plain.own @ small
        out[:, :r] += self._across(moved) @ self._features.mT
        return out

    def _across(self, features: Tensor) -> Tensor:
        """(n, d) without what is along x_i."""
        return features - (features * self.units).sum(1, keepdim=True) * self.units

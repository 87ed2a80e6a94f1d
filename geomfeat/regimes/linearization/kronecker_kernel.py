"""A guess at the tangent kernel of a network whose many outputs are those of one last linear layer.

With outputs y_iv = W_v . a_i (samples i, outputs v), the kernel of W is exactly H (x) I, H_ij = a_i . a_j. That of all
other parameters is (I (x) W) B (I (x) W'), B the kernel of the features a. Where B is about theta (x) I, the kernel is

    K ~ H (x) I + theta (x) W W'.

With W W' = U diag(m) U', it falls apart into one (n, n) matrix H + m_j theta for each direction of U, and H for all
that is orthogonal to U: every function of it costs little, however many outputs there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from geomfeat.numerics import WORKING, safe_eigh
from geomfeat.regimes.linearization.response import NULL, gain, stop_time

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class KroneckerKernel:
    """H (x) I + theta (x) W W'.

    Attributes:
        own: (n, n) H. others: (n, n) theta, positive semi-definite. weight: (C, d) W.
    """

    own: Tensor
    others: Tensor
    weight: Tensor

    def restricted(self, rows: Tensor, root: Tensor) -> KroneckerKernel:
        """The same for some of the samples, each multiplied by its `root` (len(rows), 1)."""
        own, others = (root * part[rows][:, rows] * root.mT for part in (self.own, self.others))
        found = KroneckerKernel(own, others, self.weight)
        found.__dict__["outputs"] = self.outputs
        return found

    @cached_property
    def outputs(self) -> tuple[Tensor, Tensor]:
        """m (d,), and U (C, d) with orthonormal columns, in the order of m."""
        values, vectors = safe_eigh(self.weight.mT @ self.weight)
        seen = values > len(values) * torch.finfo(WORKING).eps * values.max()
        values, vectors = values[seen], vectors[:, seen]
        return values, self.weight @ (vectors / values.sqrt())

    @cached_property
    def spectra(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Eigenvalues (d, n) and eigenvectors (d, n, n) in the directions of U; (n,) and (n, n) orthogonal to it."""
        m = self.outputs[0]
        values, vectors = safe_eigh(self.own + m[:, None, None] * self.others)
        rest, axes = safe_eigh(self.own)
        return values.clamp_min(0), vectors, rest.clamp_min(0), axes

    def _parts(self, change: Tensor) -> tuple[Tensor, Tensor]:
        """Loads (d, n) and (n, C) of a change (n, C) of the outputs on the eigenvectors."""
        u, (_, vectors, _, axes) = self.outputs[1], self.spectra
        within = change @ u
        return torch.einsum("jni,nj->ji", vectors, within), axes.mT @ (change - within @ u.mT)

    def applied(self, function: Function, change: Tensor) -> Tensor:
        """(n, C) function(K) change, for a function of the eigenvalues."""
        values, vectors, rest, axes = self.spectra
        within, outside = self._parts(change)
        within = torch.einsum("jni,ji->nj", vectors, function(values) * within)
        return within @ self.outputs[1].mT + axes @ (function(rest)[:, None] * outside)

    def solved(self, shift: float, change: Tensor) -> Tensor:
        """(n, C) (K + shift)^-1 change."""
        return self.applied(lambda w: 1 / (w + shift), change)

    def reachable(self, change: Tensor) -> Tensor:
        """(n, C) the part of a change that is not in the null space."""
        values, _, rest, _ = self.spectra
        least = NULL * max(float(values.max()), float(rest.max()))
        return self.applied(lambda w: (w > least).to(w.dtype), change)

    def flowed(self, change: Tensor, share: float) -> Tensor:
        """(n, C) coefficients of gradient flow towards a change, until this share of it is left, see `response`."""
        values, _, rest, _ = self.spectra
        within, outside = self._parts(change)
        every = torch.cat([values.flatten(), rest])
        powers = torch.cat([within.square().flatten(), outside.square().sum(1)])
        time, largest = stop_time(every, powers, share), float(every.max())
        return self.applied(lambda w: gain(w, time, largest), change)

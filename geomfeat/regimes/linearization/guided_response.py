"""The response of a linearised network by few products with its kernel, where a good guess at the kernel is known.

Lanczos (`respond_by_products`) takes a hundred products and more for a network of many outputs, whose kernel has many
small eigenvalues. With a guess G at the kernel, the search space holds what the guess says instead:

    first  the change b, and the responses of G to it;
    then   (G + 1/t)^-1 of what is left over of b - exp(-K t) b - K a, again and again,

and the response a is that of K within the space (Rayleigh-Ritz; the second step is the correction of Davidson 1975,
"The iterative calculation of a few of the lowest eigenvalues"). The guess decides how many products it takes, not what
comes out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from geomfeat.memory import with_more_rows
from geomfeat.numerics import WORKING, safe_eigh
from geomfeat.regimes.linearization.response import Response, gain, stop_time, valid_request

# Length of the next correction, relative to Dtheta, at which to stop: R is then off by .01 to .03 decades (measured).
PRECISE = 0.05
MOST, FEWEST = 32, 8  # products; fewer where that many vectors would take more than ROOM bytes
ROOM = 2**29
DEPENDENT = 1e-8  # of a vector, orthogonal to the space, below which nothing is left but rounding


@runtime_checkable
class KernelGuess(Protocol):
    """A guess at a kernel of outputs (n, C) whose functions cost little."""

    def restricted(self, rows: Tensor, root: Tensor, /) -> KernelGuess:
        """The same for some of the samples, each multiplied by its `root` (len(rows), 1)."""
        ...

    def reachable(self, change: Tensor, /) -> Tensor:
        """(n, C) the part of a change that is not in the null space."""
        ...

    def flowed(self, change: Tensor, share: float, /) -> Tensor:
        """(n, C) coefficients of gradient flow towards a change, until this share of it is left."""
        ...

    def solved(self, shift: float, change: Tensor, /) -> Tensor:
        """(n, C) (K + shift)^-1 change."""
        ...


class GuidedSearch:
    """Responses to one change of the outputs; what is found for some shares serves the next ones.

    Args:
        product: v (n, C) -> K v. change: (n, C) b. guess: of K. precise: largest relative length of a next correction.

    Raises BadInput for a change that is not finite.
    """

    def __init__(
        self, product: Callable[[Tensor], Tensor], change: Tensor, guess: KernelGuess, precise: float = PRECISE
    ) -> None:
        valid_request(change, ())
        change = change.to(WORKING)
        self.product, self.guess, self.precise = product, guess, precise
        self.reachable = guess.reachable(change)
        total, reached = float(change.norm()) ** 2, float(self.reachable.norm()) ** 2
        self.unreachable = max(0.0, 1.0 - reached / total) if total > 0 else 0.0
        self.space = _Space(product, self.reachable) if reached > 0 else None

    def towards(self, change: Tensor) -> GuidedSearch:
        """The search for another change of the same outputs."""
        return GuidedSearch(self.product, change, self.guess, self.precise)

    def responses(self, shares: Sequence[float], precise: float | None = None) -> tuple[Response, ...]:
        """One for each share of the reachable change that is left, as `response.respond` gives them.

        `precise`: as for the search, for these shares alone.
        `Response.residual` is the length of the next correction where the search ended, relative to Dtheta: an estimate
        of the error of |Dtheta|. `steps`: products so far.
        """
        valid_request(self.reachable, shares)
        space, precise = self.space, precise or self.precise
        if space is None:
            nothing = torch.zeros(self.reachable.numel(), dtype=WORKING, device=self.reachable.device)
            return (Response(nothing, 0.0, self.unreachable, self.unreachable),) * len(shares)
        if space.count == 1:
            for share in dict.fromkeys((shares[0], shares[len(shares) // 2], shares[-1])):
                space.add(self.guess.flowed(self.reachable, share))
        while True:
            found = [space.response(share, self.guess) for share in shares]
            worst = max(found, key=lambda one: one[3])
            if worst[3] <= precise or not space.add(worst[2]):
                break
        left = [share * (1 - self.unreachable) + self.unreachable for share in shares]
        return tuple(
            Response(a.flatten(), time, rest, self.unreachable, space.count, length)
            for (a, time, _, length), rest in zip(found, left, strict=True)
        )


class _Space:
    """Orthonormal vectors and K times them; the first is along the change."""

    def __init__(self, product: Callable[[Tensor], Tensor], change: Tensor) -> None:
        self.product, self.shape, self.count = product, change.shape, 0
        self.size, self.change = float(change.norm()), change.flatten()
        self.most = min(max(FEWEST, min(MOST, ROOM // (16 * change.numel()))), change.numel())
        self.vectors = torch.zeros(FEWEST, change.numel(), dtype=WORKING, device=change.device)
        self.products = torch.zeros_like(self.vectors)
        self.add(change)

    def add(self, vector: Tensor) -> bool:
        """One more vector and its product; False where there is no room, or nothing new in it."""
        if self.count == self.most:
            return False
        v, known = vector.flatten(), self.vectors[: self.count]
        v = v / v.norm()
        # Twice: once leaves rounding along the others, as large as what is new in a good correction.
        for _ in range(2):
            v = v - known.mT @ (known @ v)
        length = float(v.norm())
        if not length > DEPENDENT:
            return False
        if self.count == len(self.vectors):
            remedy = "use fewer samples or outputs"
            self.vectors = with_more_rows(self.vectors, self.most, remedy)
            self.products = with_more_rows(self.products, self.most, remedy)
        v = v / length
        self.vectors[self.count] = v
        self.products[self.count] = self.product(v.view(self.shape)).flatten().to(WORKING)
        self.count += 1
        return True

    def response(self, share: float, guess: KernelGuess) -> tuple[Tensor, float, Tensor, float]:
        """(coefficients (n, C), time, next correction, its length relative to Dtheta)."""
        known, products = self.vectors[: self.count], self.products[: self.count]
        within = known @ products.mT
        values, axes = safe_eigh(0.5 * (within + within.mT))
        values, loads = values.clamp_min(0), self.size * axes[0]
        t = stop_time(values, loads.square(), share)
        weights = axes @ (gain(values, t, float(values.max())) * loads)
        still = axes @ (torch.exp(-values * t) * loads)
        a, moved = weights @ known, weights @ products
        missing = (self.change - still @ known - moved).view(self.shape)
        correction = guess.solved(1 / t, missing)
        # |J' x|^2 = x K x, and K x is about `missing` for the correction x.
        length = math.sqrt(max(0.0, float((missing * correction).sum())) / max(float(a @ moved), 1e-300))
        return a.view(self.shape), t, correction, length

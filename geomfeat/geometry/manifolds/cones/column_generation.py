"""Cone projections of many targets over many points: one shared pricing product a round, a small exact problem a draw.

Most constraints never matter. Every draw holds the few points that carry its projection; each round one matrix product
prices all points for all unfinished draws, the most violated points of every manifold enter, and each draw solves its
small problem exactly (`factor.settle`). Rounds are priced in single precision until violations are down to its noise;
a draw that the certificate refuses continues in float64, from the points it holds. It never stops because the points
that seem violated are held already: held points are not priced.
"""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from geomfeat._numba.cone_columns import advance, choose
from geomfeat._numba.threads import in_threads, products
from geomfeat.geometry.manifolds.cones.problem import ConeProblem

# Single-precision prices of unit points are rounded to about this share of the residual.
NOISE = 1e-6
MOST_ROUNDS = 300
# Squares of lengths below this leave the range of numbers.
SMALLEST = 1e-150
# Points by which a draw's arrays grow.
GROWTH = 48


class Columns:
    """The draws of a problem and what each of them holds.

    Per draw: `rows` (the held points with their signs) and `point` (which point a row is) by slot, without gaps; `slot`
    and `weight` by position in the triangular `factor`. `priced`: the points in the precision that prices them.
    """

    def __init__(self, problem: ConeProblem, priced: np.ndarray, per_manifold: int) -> None:
        draws, r = problem.t.shape
        self.unit, self.priced = problem.unit.numpy(), priced
        self.starts, self.signs, self.limit = problem.starts.numpy(), problem.y.numpy(), problem.limit.numpy()
        self.t = np.ascontiguousarray(problem.t.numpy())
        self.rank, self.per_manifold = problem.rank, per_manifold
        self.batch = (len(self.starts) - 1) * per_manifold
        self.size, self.norm2 = np.zeros(draws, np.int64), np.zeros(draws)
        self.banned = np.zeros((draws, len(self.unit)), np.bool_)
        self.residual = self.t.copy()
        # A face usually holds an eighth of the dimensions or less; copying larger arrays costs as much as a round.
        capacity = min(self.rank, max(GROWTH, self.rank // 8)) + self.batch
        self.factor, self.rows = np.zeros((draws, capacity, capacity)), np.zeros((draws, capacity, r))
        self.w, self.weight = np.zeros((draws, capacity)), np.zeros((draws, capacity))
        self.slot, self.point = np.zeros((draws, capacity), np.int64), np.zeros((draws, capacity), np.int64)

    def hold(self, index: np.ndarray) -> None:
        """Start from points (draws, s), -1 where unused, that another run has held."""
        self._grow(index.shape[1] + self.batch, np.arange(len(index)))
        self._advance(np.arange(len(index)), np.sort(index)[:, ::-1])

    def run(self) -> None:
        """Rounds until no violation exceeds the limit of its draw, or the noise of single precision."""
        live, noise = np.arange(len(self.t)), NOISE if self.priced.dtype == np.float32 else 0.0
        for _ in range(MOST_ROUNDS):
            v = self.residual[live]
            length = np.maximum(np.linalg.norm(v, axis=1), SMALLEST)
            price = products((v / length[:, None]).astype(self.priced.dtype, copy=False), self.priced)
            lowest = np.maximum(self.limit[live] / length, noise)
            entering = self._choose(price, lowest, live)
            go = entering[:, 0] >= 0
            live, entering = live[go], entering[go]
            if not len(live):
                return
            self._grow(int(self.size[live].max()) + self.batch, live)
            self._advance(live, entering)

    def answer(self) -> tuple[Tensor, Tensor]:
        """Held points (draws, s), -1 where unused, and their multipliers."""
        used = np.arange(max(1, self.size.max())) < self.size[:, None]
        wide = used.shape[1]
        index = np.where(used, np.take_along_axis(self.point, self.slot[:, :wide], 1), -1)
        return torch.from_numpy(index), torch.from_numpy(np.where(used, self.weight[:, :wide], 0.0))

    def _choose(self, price: np.ndarray, lowest: np.ndarray, live: np.ndarray) -> np.ndarray:
        entering = np.full((len(live), self.batch), -1)
        fixed = (self.signs, self.starts, self.per_manifold, lowest, self.banned, self.point, self.size, live)
        in_threads(lambda i, j: choose(price, *fixed, entering, i, j), len(live))
        return entering

    def _advance(self, live: np.ndarray, entering: np.ndarray) -> None:
        state = (
            self.factor, self.w, self.weight, self.slot, self.point, self.rows, self.size, self.norm2, self.banned,
            self.residual,
        )  # fmt: skip
        fixed = (self.unit, self.t, self.signs, self.starts, self.rank, live, entering)
        in_threads(lambda i, j: advance(*state, *fixed, i, j), len(live))

    def _grow(self, needed: int, live: np.ndarray) -> None:
        """Room for `needed` points a draw; of draws that are done, rows and factors are not needed any more."""
        old = self.slot.shape[1]
        if needed <= old:
            return
        capacity = needed + max(GROWTH, needed // 2)
        for name in ("w", "weight", "slot", "point", "rows", "factor"):
            before = getattr(self, name)
            shape = (len(before), capacity, *((capacity,) if name == "factor" else before.shape[2:]))
            after, draws = np.zeros(shape, before.dtype), live if before.ndim == 3 else np.arange(len(before))
            in_threads(partial(_copy, before, after, self.size, draws), len(draws))
            setattr(self, name, after)


def _copy(source: np.ndarray, target: np.ndarray, size: np.ndarray, draws: np.ndarray, first: int, last: int) -> None:
    """What draws[first..last] hold: the rest of the target is written before it is read, and takes no memory so far."""
    for draw in draws[first:last]:
        held = slice(size[draw])
        target[draw, held, ...][..., : source.shape[-1]] = source[draw, held]

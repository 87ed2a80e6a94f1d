"""CKA between all pairs of layers: the numbers of the registered measures, with each Gram matrix computed once.

A study of L layers before and after training has about 2 L^2 pairs; calling a measure on each would form the same Gram
matrices L times over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import torch
from torch import Tensor

from geomfeat._numba.threads import in_pieces
from geomfeat.errors import BadInput
from geomfeat.geometry.similarity._hsic import Centred, Moments, dots_between
from geomfeat.memory import block_bytes
from geomfeat.numerics import WORKING, jackknife_stderr, row_sums
from geomfeat.statistics.copies import copies_of
from geomfeat.types import Representation

# The measures that are read off the shared Gram matrices, and their estimators.
ESTIMATORS = {"cka_linear_unbiased": "unbiased", "cka_linear_biased": "biased"}
BUDGET = 2**30
LARGE = 4096  # samples beyond which Gram matrices would take more than an eighth of the budget each
# Below these the measure itself is asked: samples, the multiple of its rounding that a kernel must be, and the share of
# its terms that a sum must be.
FEWEST, CLEAR, CANCELLED = 6, 2, 1e4 * torch.finfo(WORKING).eps

# Rows of Gram matrices that stay in a cache while all pairs use them, and columns of vectors in a group.
ROWS, COLUMNS = 32, 16

Place = tuple[str, str]  # (moment, layer)
Pair = tuple[Place, Place]
Cell = tuple[float, float | None]


class _Kernels:
    """Centred kernels, those of the pairs at hand stored; and their norms, all stored.

    As Gram matrices, which all pairs share; beyond LARGE samples as features, whose products take less memory and time.
    """

    def __init__(self, reps: Mapping[Place, Representation]) -> None:
        first = next(iter(reps.values()))
        self.n, self.device, widest = first.n, first.x.device, max(rep.d for rep in reps.values())
        self.reps = reps
        self.by_features = self.n > LARGE and widest < self.n
        self.room = max(4, block_bytes(BUDGET, self.device) // (8 * self.n * (widest if self.by_features else self.n)))
        self.kept: dict[Place, Centred] = {}
        self.own: dict[Place, Moments] = {}
        self._copies: dict[Place, Tensor | None] = {}

    def share_copies(self, pair: Pair) -> bool:
        """Whether samples are copies of each other in both layers."""
        numbers = [found for place in pair if (found := self._copies_in(place)) is not None]
        return len(numbers) == 2 and len(torch.unique(torch.stack(numbers), dim=1)[0]) < len(numbers[0])

    def _copies_in(self, place: Place) -> Tensor | None:
        """`copies_of` a layer; None where it has none."""
        if place not in self._copies:
            number = copies_of(self.reps[place])
            self._copies[place] = number if int(number.max()) + 1 < len(number) else None
        return self._copies[place]

    def between(self, pairs: Sequence[Pair]) -> list[Moments]:
        """Moments of some pairs; only the kernels of these are kept."""
        places = list(dict.fromkeys(place for pair in pairs for place in pair))
        self._load(places)
        kernels = [self.kept[place] for place in places]
        # Full groups of columns, of which the libraries compute each in the same way, however many there are.
        diagonals = torch.zeros(self.n, -(-len(places) // COLUMNS) * COLUMNS, dtype=WORKING, device=self.device)
        for k, kernel in enumerate(kernels):
            diagonals[:, k] = kernel.diagonal
        times = torch.empty(len(places), *diagonals.T.shape, dtype=WORKING, device=self.device)

        def apply(k: int, _: int) -> None:
            times[k] = kernels[k].times(diagonals).T

        in_pieces(apply, len(places), self.device)
        at = [(places.index(a), places.index(b)) for a, b in pairs]
        dots, p = self._dots(pairs), diagonals.T.contiguous()
        return [
            self.own[pairs[k][0]] if i == j else Moments(self.n, dots[k], p[i], p[j], times[j, i], times[i, j])
            for k, (i, j) in enumerate(at)
        ]

    def _load(self, places: Sequence[Place]) -> None:
        self.kept = {place: kernel for place, kernel in self.kept.items() if place in places}
        missing = [place for place in places if place not in self.kept]

        def load(k: int, _: int) -> None:
            place, rep = missing[k], self.reps[missing[k]]
            kernel = Centred.of_features(rep.x, rep.precision)
            if not self.by_features:
                kernel = Centred(rep.n, kernel.rounding, gram=kernel.matrix)
            if place not in self.own:
                self.own[place] = Moments.between(kernel, kernel)
            self.kept[place] = kernel

        in_pieces(load, len(missing), self.device)

    def _dots(self, pairs: Sequence[Pair]) -> Tensor:
        """(pairs, n) sum_j K_ij L_ij."""
        both = [(self.kept[a], self.kept[b]) for a, b in pairs]
        found = torch.empty(len(pairs), self.n, dtype=WORKING, device=self.device)

        def of_rows(first: int, last: int) -> None:
            for out, (a, b) in zip(found, both, strict=True):
                out[first:last] = row_sums(a.matrix[first:last], b.matrix[first:last])

        def of_pair(k: int, _: int) -> None:
            x, y = (side.features for side in both[k])
            assert x is not None
            assert y is not None
            single = all(torch.finfo(self.reps[place].precision).bits <= 32 for place in pairs[k])
            found[k] = dots_between(x, y, single)

        if self.by_features:
            in_pieces(of_pair, len(pairs), self.device)
        else:
            in_pieces(of_rows, self.n, self.device, share=ROWS)
        return found


def cka_cells(
    reps: Mapping[Place, Representation], pairs: Sequence[Pair], estimators: Sequence[str]
) -> Iterator[tuple[Pair, dict[str, Cell | None]]]:
    """For every pair of places, {estimator: (CKA, jackknife standard error)}, or None where it may be undefined.

    That is for (nearly) constant features, for very few samples, for samples in groups, and, unbiased, for copies of
    samples: the measure itself decides there, and says why. Of more than LARGE samples that came in single
    precision, errors are those of the measure to 1e-6 of them and 1e-8; all else is the same up to rounding in float64.

    >>> a, b = torch.randn(9, 3), torch.randn(9, 4)
    >>> reps = {("trained", "a"): Representation(a), ("trained", "b"): Representation(b)}
    >>> [(pair, cells)] = cka_cells(reps, [tuple(reps)], ["unbiased"])
    >>> from geomfeat.geometry.similarity import cka
    >>> abs(cells["unbiased"][0] - cka(a, b)) < 1e-12
    True
    """
    if not pairs:
        return
    for left, right in pairs:
        if reps[left].n != reps[right].n:
            raise BadInput(f"{left} has {reps[left].n} samples, {right} has {reps[right].n}: compare the same inputs")
    kernels = _Kernels(reps)
    # In square tiles of places, so that each kernel is used many times before it is forgotten.
    order = {place: i // max(1, kernels.room // 2) for i, place in enumerate(reps)}
    tile = lambda pair: (order[pair[0]], order[pair[1]])  # noqa: E731
    for _, group in groupby(sorted(pairs, key=tile), tile):
        some = list(group)
        for pair, cross in zip(some, kernels.between(some), strict=True):
            yield pair, _cells(kernels, pair, cross, estimators)


def _cells(kernels: _Kernels, pair: Pair, cross: Moments, estimators: Sequence[str]) -> dict[str, Cell | None]:
    cells: dict[str, Cell | None] = dict.fromkeys(estimators)
    grouped = any(kernels.reps[place].groups is not None for place in pair)
    repeated = "unbiased" in estimators and kernels.share_copies(pair)
    left, right = (kernels.own[place] for place in pair)
    for e in estimators:
        if cross.n < FEWEST or grouped or (e == "unbiased" and repeated):
            continue
        if all(_is_sound(kernels.kept[place], kernels.own[place], e) for place in pair):
            cells[e] = _cell(cross, left, right, e)
    return cells


def _is_sound(gram: Centred, own: Moments, estimator: str) -> bool:
    """Whether the kernel is far more than rounding, so that CKA with it is defined beyond doubt."""
    n = gram.n
    whole = own.hsic("biased") * (n - 1) ** 2
    left = whole if estimator == "biased" else own.hsic("unbiased") * n * (n - 3)
    return left > max((CLEAR * gram.rounding) ** 2, CANCELLED * whole)


def _cell(cross: Moments, left: Moments, right: Moments, estimator: str) -> Cell:
    own = [m.hsic(estimator) for m in (left, right)]
    value = cross.hsic(estimator) / (own[0] * own[1]) ** 0.5
    scale = left.leave_one_out(estimator) * right.leave_one_out(estimator)
    if not bool((scale > 0).all()):
        return value, None
    return value, jackknife_stderr(cross.leave_one_out(estimator) / scale.sqrt())

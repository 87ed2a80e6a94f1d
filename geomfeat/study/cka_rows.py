"""CKA between all pairs of layers: the numbers of the registered measures, with each Gram matrix computed once.

A study of L layers before and after training has about 2 L^2 pairs; calling a measure on each would form the same Gram
matrices L times over.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.similarity._hsic import Centred, Moments
from geomfeat.memory import block_bytes
from geomfeat.numerics import WORKING, jackknife_stderr
from geomfeat.statistics.copies import copies_of
from geomfeat.types import Representation

# The measures that are read off the shared Gram matrices, and their estimators.
ESTIMATORS = {"cka_linear_unbiased": "unbiased", "cka_linear_biased": "biased"}
BUDGET = 2**30
LARGE = 4096  # samples beyond which Gram matrices would take more than an eighth of the budget each
# Below these the measure itself is asked: samples, the multiple of its rounding that a kernel must be, and the share of
# its terms that a sum must be.
FEWEST, CLEAR, CANCELLED = 6, 2, 1e4 * torch.finfo(WORKING).eps

Place = tuple[str, str]  # (moment, layer)
Cell = tuple[float, float | None]


class _Grams:
    """Centred kernels, the last few stored, as many as fit the budget; and their norms, all stored.

    As Gram matrices, which all pairs share; beyond LARGE samples as features, whose products take less memory and time.
    """

    def __init__(self, reps: Mapping[Place, Representation]) -> None:
        first = next(iter(reps.values()))
        n, widest = first.n, max(rep.d for rep in reps.values())
        self.reps = reps
        self.by_features = n > LARGE and widest < n
        self.room = max(4, block_bytes(BUDGET, first.x.device) // (8 * n * (widest if self.by_features else n)))
        self._kept: OrderedDict[Place, Centred] = OrderedDict()
        self._own: dict[Place, Moments] = {}
        self._copies: dict[Place, Tensor | None] = {}

    def share_copies(self, pair: tuple[Place, Place]) -> bool:
        """Whether samples are copies of each other in both layers."""
        numbers = [found for place in pair if (found := self._copies_in(place)) is not None]
        return len(numbers) == 2 and len(torch.unique(torch.stack(numbers), dim=1)[0]) < len(numbers[0])

    def _copies_in(self, place: Place) -> Tensor | None:
        """`copies_of` a layer; None where it has none."""
        if place not in self._copies:
            number = copies_of(self.reps[place])
            self._copies[place] = number if int(number.max()) + 1 < len(number) else None
        return self._copies[place]

    def __getitem__(self, place: Place) -> tuple[Centred, Moments]:
        if place not in self._kept:
            rep = self.reps[place]
            side = Centred.of_features(rep.x, rep.precision)
            self._kept[place] = side if self.by_features else Centred(rep.n, side.rounding, gram=side.matrix)
            if len(self._kept) > self.room:
                self._kept.popitem(last=False)
        self._kept.move_to_end(place)
        gram = self._kept[place]
        if place not in self._own:
            self._own[place] = Moments.between(gram, gram)
        return gram, self._own[place]


def cka_cells(
    reps: Mapping[Place, Representation], pairs: Sequence[tuple[Place, Place]], estimators: Sequence[str]
) -> Iterator[tuple[tuple[Place, Place], dict[str, Cell | None]]]:
    """For every pair of places, {estimator: (CKA, jackknife standard error)}, or None where it may be undefined.

    That is for (nearly) constant features, for very few samples, for samples in groups, and, unbiased, for copies of
    samples: the measure itself decides there, and says why.

    >>> a, b = torch.randn(9, 3), torch.randn(9, 4)
    >>> reps = {("trained", "a"): Representation(a), ("trained", "b"): Representation(b)}
    >>> [(pair, cells)] = cka_cells(reps, [tuple(reps)], ["unbiased"])
    >>> from geomfeat.geometry.similarity import cka
    >>> abs(cells["unbiased"][0] - cka(a, b)) < 1e-12
    True
    """
    if not pairs:
        return
    grams = _Grams(reps)
    # In square tiles of places, so that each Gram matrix is used many times before it is forgotten.
    order = {place: i // max(1, grams.room // 2) for i, place in enumerate(reps)}
    for pair in sorted(pairs, key=lambda p: (order[p[0]], order[p[1]])):
        (left, own_left), (right, own_right) = grams[pair[0]], grams[pair[1]]
        if left.n != right.n:
            raise BadInput(f"{pair[0]} has {left.n} samples, {pair[1]} has {right.n}: compare the same inputs")
        cross = Moments.between(left, right)
        grouped = any(reps[place].groups is not None for place in pair)
        cells: dict[str, Cell | None] = dict.fromkeys(estimators)
        repeated = "unbiased" in estimators and grams.share_copies(pair)
        for e in estimators:
            if e == "unbiased" and repeated:
                continue
            if left.n >= FEWEST and not grouped and _is_sound(left, own_left, e) and _is_sound(right, own_right, e):
                cells[e] = _cell(cross, own_left, own_right, e)
        yield pair, cells


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

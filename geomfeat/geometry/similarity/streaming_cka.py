"""Linear CKA between all pairs of layers over more samples than fit memory, a batch at a time.

Two methods. "exact" keeps the sums over samples from which HSIC follows (see `_streamed_sums`), d1 x d2 numbers for a
pair of layers: the same number as all samples at once. "minibatch" (Nguyen, Raghu & Kornblith 2021, eq. 3) averages the
unbiased HSIC of blocks of samples: every block's is right on average, so that their mean tends to that of all samples,
but it leaves out pairs of samples in different blocks. It scatters more the smaller the blocks are, is blind to
differences between blocks (samples sorted by class!), and is the only way for wide layers. Batches are put
together to blocks of a fixed size first: neither method's result depends on the size of the batches.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from geomfeat.charts import Heat
from geomfeat.display import PlottableResult, matrix_map, pair_columns
from geomfeat.errors import BadInput
from geomfeat.geometry.similarity._cka_matrix import DEAD, PairTable
from geomfeat.geometry.similarity._cka_sums import Side
from geomfeat.geometry.similarity._hsic import check_estimator
from geomfeat.geometry.similarity._streaming_sums import ExactSums, Origin, bytes_of_sums
from geomfeat.numerics import WORKING, as_tensor, require_finite
from geomfeat.precision import coarser, precision_of
from geomfeat.types import Representation

METHODS = ("auto", "exact", "minibatch")
GROUPS = 32  # groups of blocks, left out in turn for the standard error


@dataclass(frozen=True, eq=False)
class StreamedCka(PlottableResult):
    """CKA of every layer with every other over all samples seen.

    Attributes:
        values: (L, L), in float64; NaN where it is undefined, which `notes` explain, by layer.
        stderr: of "minibatch", from the scatter of blocks (which must be drawn at random); None for "exact".
        method: "exact", or "minibatch of 1024" with the number of samples in a block.
        n: samples that were used.

    `to_frame()`: one row for each pair of layers: row, column, value, stderr.
    """

    names: tuple[str, ...]
    values: Tensor
    stderr: Tensor | None
    estimator: str
    method: str
    n: int
    notes: Mapping[str, str] = field(default_factory=dict)

    def _columns(self) -> dict[str, Any]:
        errors = torch.full_like(self.values, torch.nan) if self.stderr is None else self.stderr
        return pair_columns(self.names, self.names, value=self.values, stderr=errors)

    def _chart(self) -> Heat:
        return matrix_map(f"CKA, {self.estimator}, {self.method}", self.names, self.names, self.values, "CKA")


class StreamingCKA:
    """Linear CKA of all layers from batches of their features, at any time, in constant memory.

    Assumes independent samples. A stream does not store them, so it can neither find copies nor use groups: with groups
    of samples (views of one object) its errors are too small, and with repeated samples the unbiased estimate is wrong.
    Leave repeats out, or give all samples at once to `cka_matrix`, which counts those of a group once.

    Args:
        estimator: "unbiased" or "biased", as in `cka`; "minibatch" knows the unbiased one only.
        method: "exact", "minibatch", or "auto": exact where its sums fit `memory` bytes.
        block: number of samples processed together, for any size of batches.

    >>> x = torch.randn(500, 6, generator=torch.Generator().manual_seed(0))
    >>> stream = StreamingCKA()
    >>> for rows in x.split(70):
    ...     stream.update({"a": rows, "b": 2 * rows[:, :3] + 1})
    >>> found = stream.result()
    >>> found.method, found.n, 0.6 < float(found.values[0, 1]) < 0.8
    ('exact', 500, True)
    """

    def __init__(
        self, *, estimator: str = "unbiased", method: str = "auto", memory: int = 2**30, block: int = 1024
    ) -> None:
        check_estimator(estimator, block)
        if method not in METHODS:
            raise BadInput(f"method={method!r}: use one of {', '.join(map(repr, METHODS))}")
        if method == "minibatch" and estimator == "biased":
            raise BadInput("the biased HSIC of blocks does not estimate that of all samples: use estimator='unbiased'")
        self.estimator, self.method, self.memory, self.block = estimator, method, memory, block
        self.names: tuple[str, ...] = ()
        self._waiting: list[list[Tensor]] = []
        self._precisions: list[torch.dtype] = []
        self._sums: ExactSums | _BlockMeans | None = None

    def update(self, batch: Mapping[str, Any]) -> None:
        """Add {layer: features (m, d)} of the same m new samples; layers and widths as in the first batch.

        Raises BadInput for other layers, widths or numbers of samples, NaN, and layers too wide for method="exact".
        """
        rows = self._checked(batch)
        if not self._waiting:
            self._waiting = [[] for _ in rows]
        for waiting, x in zip(self._waiting, rows, strict=True):
            waiting.append(x)
        count = sum(map(len, self._waiting[0]))
        if count < self.block:
            return
        joined = [torch.cat(w) for w in self._waiting]
        for first in range(0, count - self.block + 1, self.block):
            self._add([x[first : first + self.block] for x in joined])
        self._waiting = [[x[count - count % self.block :].clone()] for x in joined]

    def result(self) -> StreamedCka:
        """CKA of all samples so far. Raises BadInput for fewer than the estimator needs."""
        left = [torch.cat(w) for w in self._waiting]
        seen = self._sums.n if self._sums is not None else 0
        check_estimator(self.estimator, seen + (len(left[0]) if left else 0))
        if isinstance(self._sums, _BlockMeans) or (self._sums is None and not self._exact(left)):
            sums = self._sums.copy() if self._sums is not None else _BlockMeans(self._origins(left))
            if len(left[0]) >= 4:  # fewer have no unbiased HSIC
                sums.add(left)
            return self._found(sums.hsic(), sums, f"minibatch of {self.block}", sums.stderr())
        if len(left[0]):
            self._add(left)
            self._waiting = [[x[:0]] for x in left]
        assert self._sums is not None
        return self._found(self._sums.hsic(self.estimator), self._sums, "exact", None)

    def _found(self, hsic: Tensor, sums: "ExactSums | _BlockMeans", method: str, stderr: Tensor | None) -> StreamedCka:
        notes = {name: DEAD for name, varies in zip(self.names, sums.varies(), strict=True) if not varies}
        dead = torch.tensor([name in notes for name in self.names], device=hsic.device)
        values = torch.where(dead | dead[:, None], torch.nan, _normalised(hsic).clamp(-1, 1))
        return StreamedCka(self.names, values, stderr, self.estimator, method, sums.n, notes)

    def _exact(self, rows: list[Tensor]) -> bool:
        needed = bytes_of_sums([x.shape[1] for x in rows])
        must = self.method == "exact" or self.estimator == "biased"
        if must and needed > self.memory:
            raise BadInput(
                f"exact sums of these layers take {needed / 2**30:.1f} GiB, more than memory={self.memory} bytes: "
                "raise it, reduce the layers, or use method='minibatch' (unbiased)"
            )
        return must or (self.method == "auto" and needed <= self.memory)

    def _add(self, rows: list[Tensor]) -> None:
        if self._sums is None:
            origins = self._origins(rows)
            self._sums = ExactSums(origins) if self._exact(rows) else _BlockMeans(origins)
        self._sums.add(rows)

    def _origins(self, rows: list[Tensor]) -> list[Origin]:
        return [Origin.of(x, precision) for x, precision in zip(rows, self._precisions, strict=True)]

    def _checked(self, batch: Mapping[str, Any]) -> list[Tensor]:
        names = tuple(map(str, batch))
        if not names or names != (self.names or names):
            raise BadInput(f"a batch of layers {names} after one of {self.names}: give all layers, in one order")
        rows, precisions = [], []
        for name, value in batch.items():
            x = as_tensor(value.x if isinstance(value, Representation) else value, str(name))
            if x.ndim != 2 or x.shape[1] == 0:
                raise BadInput(f"{name} must be features (samples, features), got shape {tuple(x.shape)}")
            require_finite(x, f"layer {name!r}")
            rows.append(x if x.is_floating_point() else x.to(WORKING))
            precisions.append(value.precision if isinstance(value, Representation) else precision_of(value))
        counts = {name: len(x) for name, x in zip(names, rows, strict=True)}
        if len(set(counts.values())) > 1:
            raise BadInput(f"layers of one batch differ in samples: {counts}")
        widths = [w[0].shape[1] for w in self._waiting] if self._waiting else [x.shape[1] for x in rows]
        if [x.shape[1] for x in rows] != widths:
            raise BadInput(f"layers {names} are {[x.shape[1] for x in rows]} wide, in the first batch {widths}")
        self.names = names
        self._precisions = list(map(coarser, self._precisions or precisions, precisions))
        return rows


class _BlockMeans:
    """Means over blocks of their unbiased HSIC, in groups of blocks."""

    def __init__(self, origins: list[Origin]) -> None:
        self.origins = origins
        count, device = len(origins), origins[0].point.device
        self.n, self.blocks = 0, 0
        self.sums = torch.zeros(GROUPS, count, count, dtype=WORKING, device=device)
        self.alive = [False] * count

    def copy(self) -> "_BlockMeans":
        """One that can grow by itself."""
        twin = _BlockMeans(self.origins)
        twin.n, twin.blocks, twin.sums, twin.alive = self.n, self.blocks, self.sums.clone(), list(self.alive)
        return twin

    def add(self, block: list[Tensor]) -> None:
        """One block of every layer's features (m, d), weighted by m."""
        parts = [origin.seen_from(x) for origin, x in zip(self.origins, block, strict=True)]
        sides = [Side.of_features(x, o.precision) for x, o in zip(parts, self.origins, strict=True)]
        count = len(sides)
        units = torch.tensor([side.unit for side in sides], dtype=WORKING, device=self.sums.device)
        i, j = torch.cartesian_prod(*[torch.arange(count, device=units.device)] * 2).view(-1, 2).T
        hsic = PairTable.of(sides, count, slice(0, count), False).moments(i, j).hsic_of_pairs("unbiased")
        self.sums[self.blocks % GROUPS] += len(block[0]) * hsic.view(count, count) * torch.outer(units, units)
        self.n += len(block[0])
        self.blocks += 1
        self.alive = [
            was or origin.differs(x.double().var(0, correction=0), x.double().mean(0))
            for was, origin, x in zip(self.alive, self.origins, parts, strict=True)
        ]

    def hsic(self) -> Tensor:
        """The mean over samples."""
        return self.sums.sum(0) / self.n

    def varies(self) -> list[bool]:
        """Whether a layer was no constant in some block."""
        return self.alive

    def stderr(self) -> Tensor | None:
        """Jackknife over groups of blocks; None for a single one."""
        groups = min(GROUPS, self.blocks)
        if groups < 2:
            return None
        without = _normalised(self.sums.sum(0) - self.sums[:groups])
        return (without.var(0, correction=0) * (groups - 1)).sqrt()


def _normalised(hsic: Tensor) -> Tensor:
    own = hsic.diagonal(dim1=-2, dim2=-1)
    return hsic / (own[..., :, None] * own[..., None, :]).sqrt()

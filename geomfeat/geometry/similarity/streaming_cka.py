"""Linear CKA between all pairs of layers over more samples than fit memory, a batch at a time.

Two methods. "exact" keeps the sums over samples from which HSIC follows (see `_streamed_sums`), d1 x d2 numbers for a
pair of layers: the same number as all samples at once. "minibatch" (Nguyen, Raghu & Kornblith 2021, eq. 3) averages the
unbiased HSIC of blocks of samples: every block's is right on average, so that their mean tends to that of all samples,
but it leaves out pairs of samples in different blocks. It scatters more the smaller the blocks are, is blind to
differences between blocks (samples sorted by class!), and is the only way for wide layers. Batches are put
together to blocks of a fixed size first: neither method's result depends on the size of the batches.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from geomfeat.charts import Heat
from geomfeat.display import PlottableResult, matrix_map, pair_columns
from geomfeat.distributed import gathered, named, rank, require_mergeable, summed
from geomfeat.errors import BadInput
from geomfeat.geometry.similarity._block_means import BlockMeans, normalised
from geomfeat.geometry.similarity._cka_matrix import DEAD
from geomfeat.geometry.similarity._hsic import check_estimator
from geomfeat.geometry.similarity._streaming_sums import ExactSums, Origin, bytes_of_sums
from geomfeat.numerics import WORKING, as_tensor, require_finite
from geomfeat.precision import coarser, precision_of
from geomfeat.types import Representation

METHODS = ("auto", "exact", "minibatch")


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
        dtype: of the products within a block, float32 (default) or float64, which takes twice as long. Float32 rounds
            CKA by about 1e-8, in a way that depends on which samples share a block, and so on the number of processes.

    Several processes: each updates its own stream with its own samples, and `all_reduce` gives the stream of all.

    >>> x = torch.randn(500, 6, generator=torch.Generator().manual_seed(0))
    >>> stream = StreamingCKA()
    >>> for rows in x.split(70):
    ...     stream.update({"a": rows, "b": 2 * rows[:, :3] + 1})
    >>> found = stream.result()
    >>> found.method, found.n, 0.6 < float(found.values[0, 1]) < 0.8
    ('exact', 500, True)
    """

    def __init__(
        self,
        *,
        estimator: str = "unbiased",
        method: str = "auto",
        memory: int = 2**30,
        block: int = 1024,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        check_estimator(estimator, block)
        if method not in METHODS:
            raise BadInput(f"method={method!r}: use one of {', '.join(map(repr, METHODS))}")
        if method == "minibatch" and estimator == "biased":
            raise BadInput("the biased HSIC of blocks does not estimate that of all samples: use estimator='unbiased'")
        if dtype not in (torch.float32, WORKING):
            raise BadInput(f"dtype={dtype} must be torch.float32 (default) or torch.float64")
        self.estimator, self.method, self.memory, self.block, self.dtype = estimator, method, memory, block, dtype
        self.names: tuple[str, ...] = ()
        self._waiting: list[list[Tensor]] = []
        self._precisions: list[torch.dtype] = []
        self._sums: ExactSums | BlockMeans | None = None

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
        waiting = sum(map(len, self._waiting[0])) if self._waiting else 0
        check_estimator(self.estimator, waiting + (self._sums.n if self._sums is not None else 0))
        sums = self._whole()
        if isinstance(sums, BlockMeans):
            return self._found(sums.hsic(), sums, f"minibatch of {self.block}", sums.stderr())
        return self._found(sums.hsic(self.estimator), sums, "exact", None)

    def merge(self, other: "StreamingCKA") -> None:
        """Add the samples of another stream, which stays as it is.

        Raises BadInput for other layers, widths or settings.
        """
        require_mergeable([self._facts(), other._facts()])
        if not other._waiting:
            return
        more = other._whole()
        if not self._waiting:
            self.names, self._precisions = other.names, list(other._precisions)
            self._hold(more.of_sums([total.clone() for total in more.sums]))
            return
        self._precisions = list(map(coarser, self._precisions, other._precisions))
        own = self._whole()
        moved = more.seen_from(own.origins, own.blocks)
        self._hold(own.of_sums([a + b for a, b in zip(own.sums, moved.sums, strict=True)]))

    def all_reduce(self) -> "StreamingCKA":
        """The stream of the samples of all processes of the group, which all must call this; all get the same.

        This stream stays as it is. Ranks without samples take part. Raises BadInput on all where they differ in layers,
        widths or settings, or have no samples at all; RankLost where one has ended.
        """
        own = self._whole() if self._waiting else None
        everyone = gathered({**self._facts(), "blocks": 0 if own is None else own.blocks})
        require_mergeable(everyone)
        start = next((number for number, facts in enumerate(everyone) if facts["shape"]), None)
        if start is None:
            raise BadInput("no process has samples: update the stream before all_reduce()")
        shape = everyone[start]["shape"]
        points = [torch.zeros(width + 1, dtype=WORKING) for width in shape["widths"]]
        if own is not None and rank() == start:
            points = [torch.cat([o.point.cpu(), torch.tensor([o.unit], dtype=WORKING)]) for o in own.origins]
        out = StreamingCKA(
            estimator=self.estimator, method=self.method, memory=self.memory, block=self.block, dtype=self.dtype
        )
        out.names = tuple(shape["layers"])
        came = [[getattr(torch, name) for name in facts["precisions"]] for facts in everyone if facts["shape"]]
        out._precisions = [functools.reduce(coarser, of_layer) for of_layer in zip(*came, strict=True)]
        device = "cpu" if own is None else own.origins[0].point.device
        origins = [
            Origin(point[:-1].to(device), float(point[-1]), precision)
            for point, precision in zip(summed(points), out._precisions, strict=True)
        ]
        before = sum(facts["blocks"] for facts in everyone[: rank()])
        moved = out._start(origins) if own is None else own.seen_from(origins, before)
        out._hold(moved.of_sums(summed(moved.sums)))
        return out

    def _facts(self) -> dict[str, Any]:
        widths = [w[0].shape[1] for w in self._waiting]
        return {
            "settings": {
                "estimator": self.estimator, "method": self.method, "memory": self.memory, "block": self.block,
                "dtype": named(self.dtype),
            },
            "shape": {"layers": list(self.names), "widths": widths} if widths else None,
            "precisions": list(map(named, self._precisions)),
        }  # fmt: skip

    def _whole(self) -> "ExactSums | BlockMeans":
        """The sums with those samples that do not fill a block yet."""
        left = [torch.cat(w) for w in self._waiting]
        sums = self._sums if self._sums is not None else self._start(self._origins(left))
        if isinstance(sums, BlockMeans):
            sums = sums.of_sums([total.clone() for total in sums.sums])
            if len(left[0]) >= 4:  # fewer have no unbiased HSIC
                sums.add(left)
            return sums
        if len(left[0]):
            self._add(left)
            self._waiting = [[x[:0]] for x in left]
        assert self._sums is not None
        return self._sums

    def _hold(self, sums: "ExactSums | BlockMeans") -> None:
        """Continue from these sums, with no sample waiting."""
        self._sums = sums
        self._waiting = [[o.point.new_zeros(0, len(o.point))] for o in sums.origins]

    def _start(self, origins: list[Origin]) -> "ExactSums | BlockMeans":
        exact = self._exact([len(origin.point) for origin in origins])
        return ExactSums(origins, self.dtype) if exact else BlockMeans(origins)

    def _found(self, hsic: Tensor, sums: "ExactSums | BlockMeans", method: str, stderr: Tensor | None) -> StreamedCka:
        notes = {name: DEAD for name, varies in zip(self.names, sums.varies(), strict=True) if not varies}
        dead = torch.tensor([name in notes for name in self.names], device=hsic.device)
        values = torch.where(dead | dead[:, None], torch.nan, normalised(hsic).clamp(-1, 1))
        return StreamedCka(self.names, values, stderr, self.estimator, method, sums.n, notes)

    def _exact(self, widths: list[int]) -> bool:
        needed = bytes_of_sums(widths)
        must = self.method == "exact" or self.estimator == "biased"
        if must and needed > self.memory:
            raise BadInput(
                f"exact sums of these layers take {needed / 2**30:.1f} GiB, more than memory={self.memory} bytes: "
                "raise it, reduce the layers, or use method='minibatch' (unbiased)"
            )
        return must or (self.method == "auto" and needed <= self.memory)

    def _add(self, rows: list[Tensor]) -> None:
        if self._sums is None:
            self._sums = self._start(self._origins(rows))
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

"""The same number of points of every class from more samples than fit memory, for the capacity and other measures.

Every sample has a random number that follows from its index and the seed alone; of each class those with the smallest
are kept. So the points are drawn at random, without replacement, and do not depend on batches, on the order in which
samples come, nor on how many processes they come from.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomfeat.distributed import gathered, named, require_mergeable, stacked
from geomfeat.errors import BadInput
from geomfeat.statistics.sample_numbers import number_of_each, whole_numbers
from geomfeat.types import Points, Representation, as_layer


class StreamingPoints:
    """At most `most` points of each class, drawn from batches of features, in constant memory.

    Several processes: each updates its own object with its own samples, and `all_reduce` gives that of all.

    Args:
        n_classes: labels are whole numbers from 0 to n_classes - 1.
        most: points kept of each class.

    >>> x = torch.randn(1000, 5, generator=torch.Generator().manual_seed(0))
    >>> labels = torch.arange(1000) % 2
    >>> stream = StreamingPoints(2, most=20)
    >>> for index in torch.arange(1000).split(100):
    ...     stream.update(x[index], labels[index], index)
    >>> layer = stream.result()
    >>> layer.n, layer.labels.bincount().tolist()
    (40, [20, 20])
    """

    def __init__(self, n_classes: int, *, most: int = 200, seed: int = 0) -> None:
        if n_classes < 1 or most < 1:
            raise BadInput(f"n_classes={n_classes} and most={most} must be at least 1")
        self.n_classes, self.most, self.seed = n_classes, most, seed
        self._x, self._labels, self._index = torch.zeros(0, 0), torch.zeros(0).long(), torch.zeros(0).long()

    def update(self, x: Points, labels: Any, index: Any) -> None:
        """Add features (m, d) of new samples, their labels (m,), and which samples of the whole data set they are (m,).

        A sample that comes twice counts once. Raises BadInput for another width, NaN, and labels out of range.
        """
        layer = as_layer(x)
        codes, index = whole_numbers(labels, layer.n, "labels"), whole_numbers(index, layer.n, "index")
        if layer.n and not 0 <= int(codes.min()) <= int(codes.max()) < self.n_classes:
            raise BadInput(f"labels from {int(codes.min())} to {int(codes.max())}: give 0 to {self.n_classes - 1}")
        if len(self._x) and layer.d != self._x.shape[1]:
            raise BadInput(f"x has {layer.d} features, in the first batch {self._x.shape[1]}")
        self._take(layer.x.cpu(), codes, index)

    def result(self) -> Representation:
        """The points (n, d), by class and index within it. Raises BadInput without samples."""
        if not len(self._x):
            raise BadInput("no samples yet: update the stream first")
        return Representation(self._x.clone(), self._labels.clone())

    def merge(self, other: StreamingPoints) -> None:
        """Add the samples of another object, which stays as it is. Raises BadInput for other settings or widths."""
        require_mergeable([self._facts(), other._facts()])
        if len(other._x):
            self._take(other._x, other._labels, other._index)

    def all_reduce(self) -> StreamingPoints:
        """That of the samples of all processes of the group, which all must call this; all get the same.

        This object stays as it is. Raises BadInput on all where they differ in settings or widths, or have no samples
        at all; RankLost where one has ended.
        """
        everyone = gathered(self._facts())
        require_mergeable(everyone)
        found = next((facts["shape"] for facts in everyone if facts["n"]), None)
        if found is None:
            raise BadInput("no process has samples: update the stream before all_reduce()")
        # One size and precision on all ranks.
        rows = max(facts["n"] for facts in everyone)
        x = torch.zeros(rows, found["d"], dtype=getattr(torch, found["dtype"]))
        codes = torch.zeros(2, rows, dtype=torch.long)
        if len(self._x):
            x[: len(self._x)], codes[:, : len(self._x)] = self._x, torch.stack([self._labels, self._index])
        out = StreamingPoints(self.n_classes, most=self.most, seed=self.seed)
        for facts, features, (labels, index) in zip(everyone, stacked(x), stacked(codes), strict=True):
            if facts["n"]:
                out._take(features[: facts["n"]], labels[: facts["n"]], index[: facts["n"]])
        return out

    def _take(self, x: Tensor, labels: Tensor, index: Tensor) -> None:
        if len(self._x):
            x = torch.cat([self._x, x])
            labels, index = torch.cat([self._labels, labels]), torch.cat([self._index, index])
        place = number_of_each(index, self.seed)
        # By class and number: the first of each class are kept, and of a sample that comes twice the first.
        order = torch.from_numpy(np.lexsort((index.numpy(), place, labels.numpy())))
        ordered, own = labels[order], index[order]
        fresh = torch.ones(len(order), dtype=torch.bool)
        fresh[1:] = (own[1:] != own[:-1]) | (ordered[1:] != ordered[:-1])
        order, ordered = order[fresh], ordered[fresh]
        starts = torch.searchsorted(ordered, torch.arange(self.n_classes))
        kept = order[torch.arange(len(order)) - starts[ordered] < self.most]
        kept = kept[torch.from_numpy(np.lexsort((index[kept].numpy(), labels[kept].numpy())))]
        self._x, self._labels, self._index = x[kept], labels[kept], index[kept]

    def _facts(self) -> dict[str, Any]:
        n, d = self._x.shape
        return {
            "settings": {"n_classes": self.n_classes, "most": self.most, "seed": self.seed},
            "shape": {"d": d, "dtype": named(self._x.dtype)} if n else None,
            "n": n,
        }

"""Samples that differ in what a network may sort or pack by: lengths, given as such, by a mask or by padding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geomfeat.models.streamed_inputs import leaves_of


def lengths_of(inputs: Any, mask: Tensor | None = None) -> list[Tensor]:
    """What may be a length of each sample (n,), where samples differ in it.

    Those are numbers that the inputs hold one of for each sample, the sums of masks, and the entries that are not zero
    in token ids and sequences.

    >>> [t.tolist() for t in lengths_of({"ids": torch.tensor([[5, 0], [6, 7]]), "lengths": torch.tensor([1, 2])})]
    [[1, 2], [1, 2]]
    """
    parts = [part for _, part in leaves_of(inputs)]
    single = [t.detach().reshape(len(t)) for t in parts if t.ndim and not t.is_nested and t[0].numel() == 1]
    several = [t for t in parts if not t.is_nested and t.ndim in (2, 3) and t[0].numel() > 1]
    counted = [(t != 0).flatten(1).sum(1) for t in ([] if mask is None else [mask]) + several]
    found = [t.cpu() for t in [*single, *counted] if not t.is_complex()]
    return [t for t in found if bool((t != t[0]).any())]


def differing_rows(lengths: list[Tensor], n: int, k: int) -> Tensor:
    """At most k of n rows in order: the shortest and longest, others of lengths in between, the rest evenly spread.

    >>> differing_rows([torch.tensor([3, 3, 3, 9, 3, 3, 1, 3, 3])], 9, 4).tolist()
    [0, 3, 6, 8]
    """
    chosen = dict[int, None]()
    ordered = [t.argsort(stable=True) for t in lengths]
    for order in ordered:
        chosen |= dict.fromkeys((int(order[0]), int(order[-1])))
    for values, order in zip(lengths, ordered, strict=True):
        sorted_values = values[order]
        firsts = order[torch.cat([torch.ones(1, dtype=torch.bool), sorted_values[1:] != sorted_values[:-1]])]
        between = firsts[1:-1]
        most = max(k // 2, 1)
        steps = torch.arange(min(most, len(between))) * len(between) // max(min(most, len(between)), 1)
        chosen |= dict.fromkeys(between[steps].tolist())
        if len(chosen) >= k:
            break
    evenly = torch.arange(k) * (n - 1) // max(k - 1, 1)
    # The ends first, since what is left over of k places may be few.
    chosen |= dict.fromkeys([int(evenly[0]), int(evenly[-1]), *evenly.tolist()])
    return torch.tensor(sorted(list(chosen)[:k]))


class Unseen:
    """Watches for the first batch whose whole numbers, one for each sample, are not among those of the samples before.

    >>> unseen = Unseen({"lengths": torch.tensor([4, 4])})
    >>> unseen.in_batch({"lengths": torch.tensor([4, 4])}), unseen.in_batch({"lengths": torch.tensor([4, 9])})
    (False, True)
    >>> unseen.in_batch({"lengths": torch.tensor([1, 2])})
    False
    """

    def __init__(self, head: Any) -> None:
        self._seen = {path: set(t.tolist()) for path, t in _whole(head)}
        self._found = not self._seen

    def in_batch(self, batch: Any) -> bool:
        """Whether this is the batch; once only."""
        if self._found:
            return False
        for path, t in _whole(batch):
            values = set(t.tolist())
            if len(values) > 1 and not values <= self._seen.get(path, values):
                self._found = True
        return self._found


def _whole(inputs: Any) -> list[tuple[str, Tensor]]:
    return [(path, t) for path, t in leaves_of(inputs) if t.ndim == 1 and not t.is_floating_point()]


def mask_at(key: str, tensor: Tensor, mask: Tensor | None, lengths: dict[str, Tensor]) -> Tensor | None:
    """The mask of a layer's tensor: that of its packed sequence (n, tokens), where it came as one."""
    if key not in lengths:
        return mask
    return torch.arange(tensor.shape[1]) < lengths[key][:, None]

"""The value that data loaders return, and how raw arrays become it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.labels import Labels, as_groups, as_labels, classes_in, goal_of
from geomfeat.models.nested_inputs import as_inputs, map_inputs, n_samples, take
from geomfeat.models.streamed_inputs import LazyInputs, Rows
from geomfeat.numerics import require_finite, stream

CHANNELS = (1, 3, 4)
# More samples than these are not read into memory, where they come from files: images of 224 x 224 take 600 KB each.
IN_MEMORY = 2048


@dataclass(frozen=True, eq=False)
class Dataset:
    """Inputs with labels, ready for a model.

    Attributes:
        inputs: tensor (n, ...), or a tuple or mapping of such; images are (n, channels, height, width).
        labels: (n,) classes, numbers or names, or None; kept as whole numbers.
        name: short name. classes: names of the classes 0, 1, ... (empty: not known).
        test_inputs, test_labels: held-out samples, or None.
        targets, test_targets: (n, C) values to be learned in place of classes, or None: a regression.
        groups, test_groups: (n,) which samples belong together (see `Representation`), or None.
        preprocessing: what was done to the raw numbers, in words. card: name of the data card, or "".
    """

    inputs: Any
    labels: Tensor | None = None
    name: str = "data"
    classes: tuple[str, ...] = ()
    test_inputs: Any = None
    test_labels: Tensor | None = None
    preprocessing: str = ""
    card: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    targets: Tensor | None = None
    test_targets: Tensor | None = None
    groups: Tensor | None = None
    test_groups: Tensor | None = None

    def __post_init__(self) -> None:
        for part, inputs, targets, beside in (
            ("", self.inputs, self.targets, ("labels", "groups")),
            ("test ", self.test_inputs, self.test_targets, ("test_labels", "test_groups")),
        ):
            if inputs is None:
                continue
            n = n_samples(inputs)
            map_inputs(inputs, lambda t, part=part: require_finite(t, f"{part}inputs of {self.name!r}"))
            if targets is not None and (targets.ndim != 2 or targets.shape[0] != n):
                raise BadInput(
                    f"{part}targets of {self.name!r} have shape {tuple(targets.shape)}: give (n, outputs) values for "
                    f"the {n} {part}samples"
                )
            for field_name in beside:
                given = getattr(self, field_name)
                if given is None:
                    continue
                where = f"{field_name} of {self.name!r}"
                if field_name.endswith("groups"):
                    object.__setattr__(self, field_name, as_groups(given, where, n))
                    continue
                found = as_labels(given, where, n, self.classes)
                object.__setattr__(self, field_name, found.codes)
                object.__setattr__(self, "classes", self.classes or found.classes)

    @property
    def n(self) -> int:
        """Number of samples (not counting the test ones)."""
        return n_samples(self.inputs)

    @property
    def known(self) -> Labels | Tensor | None:
        """What is known of the samples: their classes, with names where every class has one; else target values."""
        if self.labels is None:
            return self.targets
        named = int(self.labels.min()) >= 0 and int(self.labels.max()) < len(self.classes)
        return Labels(self.labels, self.classes) if named else self.labels

    @property
    def goal(self) -> Tensor | None:
        """What is to be learned: the target values of a regression, else the classes."""
        return self.labels if self.targets is None else self.targets

    @property
    def test_goal(self) -> Tensor | None:
        """The same of the test samples."""
        return self.test_labels if self.test_targets is None else self.test_targets

    def numbered(self) -> Dataset:
        """The same with classes 0, 1, ... in sorted order, those of the test included, and named by their numbers.

        Itself where its classes have names, are numbered so already, or are not there.
        """
        given = [t for t in (self.labels, self.test_labels) if t is not None]
        if self.labels is None or self.classes:
            return self
        found = torch.cat(given).unique()
        if int(found[0]) == 0 and int(found[-1]) == len(found) - 1:
            return self
        labels, test = (None if t is None else torch.searchsorted(found, t) for t in (self.labels, self.test_labels))
        return replace(self, labels=labels, test_labels=test, classes=tuple(map(str, found.tolist())))

    def testing(self) -> Dataset:
        """The test samples as inputs; BadInput when there are none."""
        if self.test_inputs is None:
            raise BadInput(f"data {self.name!r} has no test split: use split='train', or give x_test and y_test")
        return replace(
            self, inputs=self.test_inputs, labels=self.test_labels, targets=self.test_targets, groups=self.test_groups,
            test_inputs=None, test_labels=None, test_targets=None, test_groups=None,
        )  # fmt: skip

    def training(self) -> Dataset:
        """Without the test samples."""
        return replace(self, test_inputs=None, test_labels=None, test_targets=None, test_groups=None)

    def subsample(self, n: int | None, seed: int = 0) -> Dataset:
        """The first `n` samples of a seeded order that goes round the classes; all, in order, for n=None.

        So every subsample is as balanced as the classes allow, and a larger one contains the smaller ones.
        """
        if n is None:
            return self
        if not 1 <= n <= self.n:
            raise BadInput(f"n={n} must be between 1 and the {self.n} samples of {self.name!r}")
        rows = balanced_order(self.labels, self.n, seed)[:n]
        labels, targets, groups = (None if t is None else t[rows] for t in (self.labels, self.targets, self.groups))
        lazy = isinstance(self.inputs, LazyInputs) and n > IN_MEMORY
        inputs = Rows(self.inputs, rows) if lazy else take(self.inputs, rows)
        return replace(self, inputs=inputs, labels=labels, targets=targets, groups=groups)


def classes_or_targets(raw: Any, name: str, classes: Sequence[str] = ()) -> tuple[Labels | None, Tensor | None]:
    """(classes, None) of raw labels, or (None, values (n, C) to be learned) where they are those of a regression.

    >>> classes_or_targets([0.5, 1.5], "y")[1].tolist()
    [[0.5], [1.5]]
    """
    if classes_in(raw, name) is not None:
        return as_labels(raw, name, classes=classes), None
    values = goal_of(raw, name)
    assert isinstance(values, Tensor)
    return None, values.flatten(1) if values.ndim > 1 else values[:, None]


def balanced_order(labels: Tensor | None, n: int, seed: int) -> Tensor:
    """A seeded order (n,) of all samples that takes one of each class in turn; a plain permutation without labels.

    >>> labels = torch.tensor([0, 0, 0, 1, 1, 1])
    >>> labels[balanced_order(labels, 6, seed=0)[:4]].tolist()
    [0, 1, 0, 1]
    """
    order = torch.randperm(n, generator=stream(seed, "subsample"))
    if labels is None:
        return order
    shuffled = labels[order].cpu()
    turn = torch.zeros(n, dtype=torch.long)
    for c in shuffled.unique():
        mine = shuffled == c
        turn[mine] = torch.arange(int(mine.sum()))
    by_class = torch.argsort(shuffled, stable=True)
    return order[by_class[torch.argsort(turn[by_class], stable=True)]]


def as_features(raw: Any) -> Any:
    """Raw arrays as a model takes them: floats in torch's default precision, bytes over 255, images as (n, c, h, w).

    Images are recognised by four axes of which the last is 1, 3 or 4 long and the second is not. Integers other than
    bytes (token ids) stay integers.
    """

    def one(t: Tensor) -> Tensor:
        if t.layout is not torch.strided or t.is_meta:
            raise BadInput(
                f"inputs are {'without values (on the meta device)' if t.is_meta else 'sparse'}: give dense ones"
            )
        if t.dtype == torch.uint8:
            t = t.to(torch.get_default_dtype()) / 255
        elif t.is_floating_point():
            t = t.to(torch.get_default_dtype())
        elif t.dtype != torch.bool:
            t = t.long()
        if t.ndim == 4 and t.shape[3] in CHANNELS and t.shape[1] not in CHANNELS:
            t = t.permute(0, 3, 1, 2).contiguous()
        return t

    inputs = as_inputs(raw)
    n_samples(inputs)
    return map_inputs(inputs, one)


def standardised(train: Tensor, test: Tensor | None) -> tuple[Tensor, Tensor | None, str]:
    """Images minus the training images' mean and over their standard deviation, per channel; with a sentence on it."""
    for part in (train, test):
        if part is not None and (part.ndim != 4 or part.shape[1] != train.shape[1] or not part.is_floating_point()):
            raise BadInput(
                f"images are (n, channels, height, width), or (n, height, width, channels), got {tuple(part.shape)} of "
                f"{str(part.dtype).removeprefix('torch.')}: name a file of images"
            )
    mean = train.mean((0, 2, 3), keepdim=True)
    deviation = train.std((0, 2, 3), keepdim=True).clamp_min(1e-8)
    scaled = None if test is None else (test - mean) / deviation
    numbers = ", ".join(f"{m:.4f} / {s:.4f}" for m, s in zip(mean.flatten(), deviation.flatten(), strict=True))
    words = f"scaled to [0, 1]; then mean and standard deviation per channel of the training images: {numbers}"
    return (train - mean) / deviation, scaled, words

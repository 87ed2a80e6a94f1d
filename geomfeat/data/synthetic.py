"""Made-up data whose structure is known: parity of bits, Gaussian mixtures, and values of a random teacher.

Each function takes no arguments, so that `geomfeat.data.synthetic:parity` is a SPEC (see `load_data`).
"""

from __future__ import annotations

import torch

from geomfeat.data.dataset import Dataset
from geomfeat.numerics import stream

SAMPLES, TEST = 400, 200
BITS, RELEVANT = 12, 3
CLASSES, DIMENSION, SPREAD = 5, 20, 0.6
TEACHER = 8  # hidden units


def parity() -> Dataset:
    """Whether an odd number of the first 3 of 12 bits is set: (n, 12) inputs of -1 and 1, 2 classes, 400 to train.

    >>> data = parity()
    >>> bool(((data.inputs[:, :3] > 0).sum(1) % 2 == data.labels).all())
    True
    """
    generator = stream(0, "parity")
    x = torch.randint(0, 2, (SAMPLES + TEST, BITS), generator=generator)
    y = x[:, :RELEVANT].sum(1) % 2
    return _split((2 * x - 1).to(torch.get_default_dtype()), y, "parity", ("even", "odd"))


def gaussian_mixture() -> Dataset:
    """Five classes of two Gaussian clusters each, on opposite sides of the origin: no linear map separates them.

    (n, 20) inputs, 400 to train; centres N(0, I) and their negatives, spread 0.6 a dimension.
    """
    generator = stream(0, "gaussian mixture")
    centers = torch.randn(CLASSES, DIMENSION, generator=generator)
    centers = torch.cat([centers, -centers])
    cluster = torch.arange(SAMPLES + TEST) % (2 * CLASSES)
    cluster = cluster[torch.randperm(len(cluster), generator=generator)]
    x = centers[cluster] + SPREAD * torch.randn(len(cluster), DIMENSION, generator=generator)
    return _split(x, cluster % CLASSES, "gaussian-mixture", tuple(str(c) for c in range(CLASSES)))


def teacher() -> Dataset:
    """A regression: 3 values of a random tanh network with 8 hidden units, on (n, 20) Gaussian inputs, 400 to train.

    targets (n, 3) have mean 0 and mean square 1 over the training samples. There are no labels.
    """
    generator = stream(0, "teacher")
    x = torch.randn(SAMPLES + TEST, DIMENSION, generator=generator)
    first, second = (torch.randn(a, b, generator=generator) for a, b in ((DIMENSION, TEACHER), (TEACHER, 3)))
    y = torch.tanh(2 * x @ first / DIMENSION**0.5) @ second
    y = y - y[:SAMPLES].mean(0)
    y = y / y[:SAMPLES].square().mean().sqrt()
    return Dataset(
        x[:SAMPLES], None, "teacher", (), x[SAMPLES:], None, "as drawn", targets=y[:SAMPLES], test_targets=y[SAMPLES:]
    )


def _split(x: torch.Tensor, y: torch.Tensor, name: str, classes: tuple[str, ...]) -> Dataset:
    return Dataset(x[:SAMPLES], y[:SAMPLES].long(), name, classes, x[SAMPLES:], y[SAMPLES:].long(), "as drawn")

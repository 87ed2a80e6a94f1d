"""Data sets that need no download: scikit-learn's digits, and Fashion-MNIST if its files are installed."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from geomfeat.data.dataset import Dataset, balanced_order, standardised
from geomfeat.errors import BadInput

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
DIGITS_TEST = 397
GARMENTS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def digits() -> Dataset:
    """1,797 handwritten digits, 8 x 8, bundled with scikit-learn: 1,400 to train, 397 to test, always the same ones.

    Images (n, 1, 8, 8), standardised by the mean and deviation of all training pixels.

    >>> digits().inputs.shape
    torch.Size([1400, 1, 8, 8])
    """
    pixels, classes = _digits()
    images = torch.tensor(pixels, dtype=torch.get_default_dtype()).reshape(-1, 1, 8, 8) / 16
    labels = torch.tensor(classes).long()
    order = balanced_order(labels, len(labels), seed=0)
    test, train = order[:DIGITS_TEST], order[DIGITS_TEST:].sort().values
    test = test.sort().values
    x, x_test, words = standardised(images[train], images[test])
    names = tuple(str(c) for c in range(10))
    return Dataset(x, labels[train], "digits", names, x_test, labels[test], words, "digits")


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Pixels (1797, 64) and classes, as scikit-learn reads them from text: ten times as long as all else here."""
    from sklearn.datasets import load_digits

    pixels, classes = load_digits(return_X_y=True)
    return np.asarray(pixels), np.asarray(classes)


def fashion_mnist() -> Dataset:
    """70,000 pictures of clothing, 28 x 28 (60,000 to train), from $GEOMFEAT_DATA or the Debian package's folder.

    Images (n, 1, 28, 28), standardised by the mean and deviation of all training pixels.
    Raises BadInput, with what to install, if the files are missing or damaged.
    """
    folder = _fashion_folder()
    x, y = _images(folder, "train"), _labels(folder, "train")
    x_test, y_test = _images(folder, "t10k"), _labels(folder, "t10k")
    x, x_test, words = standardised(x, x_test)
    return Dataset(x, y, "fashion-mnist", GARMENTS, x_test, y_test, words, "fashion-mnist")


def _fashion_folder() -> Path:
    own = os.environ.get("GEOMFEAT_DATA")
    folders = [*([Path(own), Path(own) / "fashion-mnist"] if own else []), DEBIAN_FOLDER]
    for folder in folders:
        if (folder / "train-images-idx3-ubyte.gz").is_file():
            return folder
    raise BadInput(
        f"fashion-mnist: no train-images-idx3-ubyte.gz in {', '.join(map(str, folders))}: install Debian's "
        "package dataset-fashion-mnist, or set GEOMFEAT_DATA to a folder with the four idx .gz files"
    )


def _images(folder: Path, part: str) -> Tensor:
    raw = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    return torch.from_numpy(raw).to(torch.get_default_dtype())[:, None] / 255


def _labels(folder: Path, part: str) -> Tensor:
    return torch.from_numpy(read_idx(folder / f"{part}-labels-idx1-ubyte.gz")).long()


def read_idx(path: Path) -> np.ndarray:
    """A byte array from a gzipped IDX file (LeCun's format: 0, 0, 8, number of axes, big-endian sizes, bytes).

    Raises BadInput that names the file when it is missing, truncated or of another kind.
    """
    if not path.is_file():
        raise BadInput(f"no such file: {str(path)!r}; the four idx .gz files must be in one folder")
    try:
        with gzip.open(path) as file:
            raw = file.read()
    except (OSError, EOFError, zlib.error) as cause:
        raise BadInput(f"{str(path)!r} is truncated or not gzip ({cause}): copy it again") from cause
    axes = raw[3] if len(raw) >= 4 and raw[:3] == b"\x00\x00\x08" else 0
    if not axes or len(raw) < 4 + 4 * axes:
        raise BadInput(f"{str(path)!r} is not an IDX file of bytes: copy it again")
    shape = tuple(map(int, np.frombuffer(raw, ">u4", axes, 4)))
    body = np.frombuffer(raw, np.uint8, offset=4 + 4 * axes)
    if body.size != math.prod(shape):
        raise BadInput(f"{str(path)!r} holds {body.size} bytes, but its header says {shape}: copy it again")
    return body.reshape(shape).copy()

"""Data from the user's own files and functions: npz, CIFAR-10 in either form, a factory."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from geomfeat.data.dataset import Dataset, as_features, standardised
from geomfeat.errors import BadInput
from geomfeat.labels import as_groups, as_labels
from geomfeat.models.checkpoints import called, load_object
from geomfeat.npz_files import UNREADABLE, read_arrays

AIRPLANE_TO_TRUCK = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
SAFE = {("multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}


def from_npz(path: Path) -> Dataset:
    """x (or x_train) with y (or y_train), and x_test, y_test, classes, groups, groups_test where they are there.

    Bytes are divided by 255, images become (n, c, h, w), other numbers stay as they are: scale them to your model.
    """
    return _from_arrays(read_arrays(path), str(path), path.stem)


def _from_arrays(arrays: Mapping[str, Any], where: str, name: str) -> Dataset:
    key = next((k for k in ("x", "x_train", "inputs") if k in arrays), None)
    if key is None:
        raise BadInput(f"{where} holds {', '.join(arrays) or 'nothing'}, but no 'x' (samples first) or 'x_train'")
    label_key = next((k for k in ("y", "y_train", "labels") if k in arrays), None)
    test = as_features(arrays["x_test"]) if "x_test" in arrays else None
    given = () if "classes" not in arrays else tuple(str(c) for c in arrays["classes"])
    parts = [(label_key, arrays[label_key])] if label_key else []
    parts += [("y_test", arrays["y_test"])] if test is not None and "y_test" in arrays else []
    labels, classes = _numbered({key: raw for key, raw in parts if raw is not None}, where, given)
    groups, test_groups = (
        None if arrays.get(k) is None else as_groups(arrays[k], f"{k} of {where}") for k in ("groups", "groups_test")
    )
    return Dataset(
        as_features(arrays[key]), labels.get(label_key or ""), name, classes, test, labels.get("y_test"),
        "bytes divided by 255, images as (n, channels, height, width), else as given",
        groups=groups, test_groups=test_groups if test is not None else None,
    )  # fmt: skip


def _numbered(parts: Mapping[str, Any], where: str, classes: tuple[str, ...]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Codes of the labels of each part, with one numbering for all, and the names of the classes."""
    found = {key: as_labels(raw, f"{key} of {where}") for key, raw in parts.items()}
    if any(one.classes for one in found.values()):
        classes = classes or tuple(sorted({name for one in found.values() for name in one.classes}))
        found = {key: as_labels(raw, f"{key} of {where}", classes=classes) for key, raw in parts.items()}
    return {key: one.codes for key, one in found.items()}, classes


def cifar10(path: Path) -> Dataset:
    """CIFAR-10 from the folder of its python batches, or from an .npz (or the folder of one) with x_train, y_train, ...

    Images (n, 3, 32, 32), standardised per channel by the training images.
    """
    batches = [path / f"data_batch_{i}" for i in range(1, 6)]
    if not batches[0].is_file() and (path / "cifar-10-batches-py").is_dir():
        return cifar10(path / "cifar-10-batches-py")
    if batches[0].is_file():
        x, y = zip(*(_batch(b) for b in batches if b.is_file()), strict=True)
        arrays: dict[str, Any] = {"x": np.concatenate(x), "y": np.concatenate(y)}
        if (path / "test_batch").is_file():
            arrays["x_test"], arrays["y_test"] = _batch(path / "test_batch")
    else:
        arrays = read_arrays(_npz_in(path))
    made = _from_arrays(arrays, str(path), "cifar10")
    try:
        inputs, test, words = standardised(made.inputs, made.test_inputs)
    except BadInput as cause:
        raise BadInput(f"cifar10: {str(path)!r}: {cause}") from cause
    return Dataset(inputs, made.labels, "cifar10", made.classes or AIRPLANE_TO_TRUCK, test, made.test_labels, words)


def _npz_in(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted(path.glob("*.npz")) if path.is_dir() else []
    if len(found) != 1:
        raise BadInput(
            f"cifar10: {str(path)!r} holds neither data_batch_1 ... data_batch_5 nor exactly one .npz "
            f"({len(found)} found): name the npz itself, or unpack cifar-10-python.tar.gz there"
        )
    return found[0]


class _ArraysOnly(pickle.Unpickler):
    """The published batches are pickles of a dict with one array: allow exactly that and nothing that runs code."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        """Only numpy's array and dtype, under old and new module names, and bytes as Python 3 wrote them."""
        if (module_name, global_name) == ("_codecs", "encode"):
            return _latin1
        if module_name.split(".")[0] != "numpy" or (module_name.split(".")[-1], global_name) not in SAFE:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}, which is not a plain array")
        return np.empty(0).__reduce__()[0] if global_name == "_reconstruct" else getattr(np, global_name)


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1")


def _batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(images (n, 3, 32, 32) uint8, labels (n,)) of one python batch."""
    try:
        with path.open("rb") as file:
            raw = _read_arrays(file)
        images = np.asarray(raw[b"data"], np.uint8).reshape(-1, 3, 32, 32)
        return images, np.asarray(raw[b"labels"], np.int64)
    except (*UNREADABLE, pickle.UnpicklingError) as cause:
        raise BadInput(
            f"{str(path)!r} is not a CIFAR-10 python batch or is truncated ({cause}): copy it again"
        ) from cause


def _read_arrays(file: BinaryIO) -> dict[bytes, Any]:
    return _ArraysOnly(file, encoding="bytes").load()


def from_factory(spec: str) -> Dataset:
    """What `pkg.module:factory` or `path/file.py:factory` returns: (x, y), a Dataset, inputs alone, or a mapping.

    A mapping with x (and y, x_test, y_test, classes) is read like an npz; any other mapping is the model's inputs.
    """
    made = load_object(spec, "data")
    if inspect.isroutine(made) or isinstance(made, type):
        made = called(made, spec, "data")
    name = spec.rpartition(":")[2]
    if isinstance(made, Dataset):
        return made
    if isinstance(made, Mapping) and ("x" in made or "x_train" in made):
        return _from_arrays(made, spec, name)
    if isinstance(made, tuple | list) and len(made) == 2 and not isinstance(made[0], int | float):
        labels = None if made[1] is None else as_labels(made[1], f"labels of {spec}")
        codes, classes = (None, ()) if labels is None else (labels.codes, labels.classes)
        return Dataset(as_features(made[0]), codes, name, classes)
    if not isinstance(made, Mapping | tuple | list) and not hasattr(made, "__array__"):
        raise BadInput(f"data={spec!r} returned {type(made).__name__}; it must return a Dataset, (x, y) or x")
    return Dataset(as_features(made), None, name)

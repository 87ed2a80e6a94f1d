"""Data from the user's own files and functions: npz, CIFAR-10 in either form, a factory."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from torch import Tensor

from geomfeat.data.batch_streams import collected
from geomfeat.data.dataset import Dataset, as_features, classes_or_targets, standardised
from geomfeat.errors import BadInput, OutOfMemory
from geomfeat.labels import as_goal, as_groups, as_labels
from geomfeat.memory import is_out_of_memory
from geomfeat.models.streamed_inputs import in_batches
from geomfeat.models.weights.checkpoints import called, load_object, what_went_wrong
from geomfeat.storage.npz_files import UNREADABLE, read_arrays

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
    parts = [("y", label_key, arrays[label_key])] if label_key else []
    parts += [("y_test", "y_test", arrays["y_test"])] if test is not None and "y_test" in arrays else []
    known = {part: (f"{key} of {where}", raw) for part, key, raw in parts if raw is not None}
    labels, targets, classes = _known(known, given)
    groups, test_groups = (
        None if arrays.get(k) is None else as_groups(arrays[k], f"{k} of {where}") for k in ("groups", "groups_test")
    )
    return Dataset(
        as_features(arrays[key]), labels.get("y"), name, classes, test, labels.get("y_test"),
        "bytes divided by 255, images as (n, channels, height, width), else as given",
        targets=targets.get("y"), test_targets=targets.get("y_test"),
        groups=groups, test_groups=test_groups if test is not None else None,
    )  # fmt: skip


def _known(
    parts: Mapping[str, tuple[str, Any]], classes: tuple[str, ...]
) -> tuple[dict[str, Tensor], dict[str, Tensor], tuple[str, ...]]:
    """Codes of the classes of each part, with one numbering for all, or target values; and the names of the classes."""
    found = {part: classes_or_targets(raw, name) for part, (name, raw) in parts.items()}
    if any(values is not None for _, values in found.values()):
        # Values that are whole by chance in one part are values there too.
        goals = {part: as_goal(raw, name) for part, (name, raw) in parts.items()}
        return {}, {part: goal.reshape(len(goal), -1) for part, goal in goals.items()}, ()
    labels = {part: known for part, (known, _) in found.items() if known is not None}
    if any(known.classes for known in labels.values()):
        classes = classes or tuple(sorted({name for known in labels.values() for name in known.classes}))
        labels = {part: as_labels(raw, name, classes=classes) for part, (name, raw) in parts.items()}
    return {part: known.codes for part, known in labels.items()}, {}, classes


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
    """What `pkg.module:factory` or `path/file.py:factory` returns, as a data set.

    That is (x, y), x alone, a Dataset of geomfeat or torch, a DataLoader or iterator of batches, a pair (train, test)
    of these, or a mapping: with x (and y, x_test, y_test, classes) it is read like an npz, any other is the model's
    inputs. Batches are read once, into memory.
    """
    made = load_object(spec, "data")
    if inspect.isroutine(made) or isinstance(made, type):
        made = called(made, spec, "data")
    name = spec.rpartition(":")[2]
    if isinstance(made, Dataset):
        return made
    if in_batches(made):
        return replace(_read(made, spec), name=name)
    if isinstance(made, Mapping) and ("x" in made or "x_train" in made):
        return _from_arrays(made, spec, name)
    if isinstance(made, tuple | list) and len(made) == 2 and all(map(in_batches, made)):
        return with_test(_read(made[0], spec), _read(made[1], spec), name)
    if isinstance(made, tuple | list) and len(made) == 2 and not isinstance(made[0], int | float):
        known, targets = (None, None) if made[1] is None else classes_or_targets(made[1], f"labels of {spec}")
        codes, classes = (None, ()) if known is None else (known.codes, known.classes)
        return Dataset(as_features(made[0]), codes, name, classes, targets=targets)
    if not isinstance(made, Mapping | tuple | list) and not hasattr(made, "__array__"):
        raise BadInput(
            f"data={spec!r} returned {type(made).__name__}; it must return a Dataset, (x, y) or x, or a DataLoader"
        )
    return Dataset(as_features(made), None, name)


def _read(source: Any, spec: str) -> Dataset:
    """`collected`, with what the user's own code raises as BadInput."""
    try:
        return collected(source)
    except BadInput:
        raise
    except (Exception, SystemExit) as cause:
        if is_out_of_memory(cause):
            raise OutOfMemory(f"data={spec!r} does not fit into memory: {what_went_wrong(cause)}") from cause
        raise BadInput(f"data={spec!r} failed while its batches were read: {what_went_wrong(cause)}") from cause


def with_test(train: Dataset, test: Dataset, name: str) -> Dataset:
    """One data set of two parts, with one numbering of their classes."""
    if train.classes != test.classes:
        parts = {"y": ("labels", _names_of(train)), "y_test": ("test labels", _names_of(test))}
        codes, _, classes = _known({key: part for key, part in parts.items() if part[1] is not None}, ())
        train = replace(train, labels=codes.get("y"), classes=classes)
        test = replace(test, labels=codes.get("y_test"), classes=classes)
    return replace(
        train, name=name, test_inputs=test.inputs, test_labels=test.labels, test_targets=test.targets,
    )  # fmt: skip


def _names_of(data: Dataset) -> list[Any] | None:
    """The class of every sample by name, or by its number where it has none."""
    if data.labels is None:
        return None
    return [data.classes[code] if data.classes else code for code in data.labels.tolist()]

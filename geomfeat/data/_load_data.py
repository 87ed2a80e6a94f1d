"""Data by SPEC.

These are `digits`, `fashion-mnist`, `npz:FILE`, `cifar10:DIR`, `text:FILE`, `images:FOLDER`, `hf-dataset:FOLDER`,
`task:NAME`, `pkg.module:factory` and `path/file.py:factory`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from geomfeat.data.builtin import digits, fashion_mnist
from geomfeat.data.dataset import Dataset
from geomfeat.data.pretrained_inputs import OPTIONS, READERS
from geomfeat.data.spec_options import PathWithOptions
from geomfeat.data.tasks.by_name import task_dataset
from geomfeat.data.user_files import cifar10, from_factory, from_npz
from geomfeat.errors import BadInput, near
from geomfeat.models.sources._load_model import folder_of_inputs

BY_NAME: dict[str, Callable[[], Dataset]] = {"digits": digits, "fashion-mnist": fashion_mnist}
BY_PATH: dict[str, Callable[[Path], Dataset]] = {"npz": from_npz, "cifar10": cifar10}
TASK = "task"
FORMS = (
    "digits, fashion-mnist, npz:FILE, cifar10:DIR, text:FILE, images:FOLDER, hf-dataset:FOLDER, task:NAME, "
    "pkg.module:factory, path/file.py:factory"
)


def load_data(
    spec: str,
    *,
    split: str | None = None,
    n: int | None = None,
    seed: int = 0,
    model: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Load the data set that a SPEC names.

    Args:
        spec: besides the embedded sets, npz and factories:
            "text:FILE[:text=COLUMN,label=COLUMN,max_length=N,tokenizer=FOLDER]", texts from .txt (a sample in each
            line), .jsonl or .parquet, as token ids with their mask; longer ones than the model takes are refused, or
            cut by max_length. "images:FOLDER[:size=N,scaling=imagenet]", with the folders in it as classes, decoded
            when they are read. "hf-dataset:FOLDER[:...]", what `datasets` saved to disk, of any of these.
            "task:NAME[:n=N,seed=N,...]", trials of a task for recurrent networks, see `geomfeat.data.tasks.by_name`.
        split: "test" makes the test samples the inputs; "train" leaves them out; None keeps both.
        n: number of samples, balanced over the classes, chosen by `seed`; a larger n contains the smaller ones.
        model: "hf:FOLDER" of the model that the data is for: texts are read by its tokenizer, images are sized and
            scaled by its preprocessor_config.json.

    Embedded data sets and CIFAR-10 are standardised by their training images; in other data, bytes are divided by 255
    and the rest is unchanged. Images come as (n, channels, height, width).

    Raises BadInput for an unknown SPEC (with near names), files that are missing, truncated or of another kind, labels
    of the wrong length, NaN in the inputs, an `n` out of range, columns that are not there, a missing tokenizer, and
    texts that the model does not take.

    >>> data = load_data("digits", n=100)
    >>> data.inputs.shape, data.labels.bincount().tolist()
    (torch.Size([100, 1, 8, 8]), [10, 10, 10, 10, 10, 10, 10, 10, 10, 10])
    """
    if split not in (None, "train", "test"):
        raise BadInput(f"split={split!r} must be 'train', 'test' or None")
    data = _load(spec, None if model is None else folder_of_inputs(model))
    if split == "test":
        data = data.testing()
    elif split == "train":
        data = data.training()
    return data.subsample(n, seed)


def _load(spec: str, model: Path | None) -> Dataset:
    kind, separator, rest = spec.partition(":")
    if not separator:
        if spec in BY_NAME:
            return BY_NAME[spec]()
        known = [*BY_NAME, *(f"{k}:" for k in (*BY_PATH, *READERS, TASK))]
        raise BadInput(f"data={spec!r} is not known; near: {near(spec, known)}. Forms: {FORMS}")
    if kind == TASK:
        return _naming(spec, rest or spec, lambda: task_dataset(rest))
    if kind in BY_PATH or kind in READERS:
        if not rest:
            raise BadInput(f"data={spec!r} names no file: {FORMS}")
        if kind in READERS:
            return _naming(spec, rest, lambda: READERS[kind](PathWithOptions.of(rest, OPTIONS[kind]), model))
        return _naming(spec, Path(rest).name, lambda: BY_PATH[kind](_expanded(rest, spec)))
    return _naming(spec, spec, lambda: from_factory(spec))


def _expanded(path: str, spec: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as cause:
        raise BadInput(f"data={spec!r}: no such home folder ({cause})") from cause


def _naming(spec: str, name: str, load: Callable[[], Dataset]) -> Dataset:
    """The result of `load`; its errors name the SPEC if they do not name the file."""
    try:
        return load()
    except BadInput as cause:
        if name in str(cause):
            raise
        raise BadInput(f"data={spec!r}: {cause}") from cause

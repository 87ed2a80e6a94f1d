"""Texts, images and saved data sets, as a pretrained model takes them: by its own tokenizer and scaling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from geomfeat.data.dataset import Dataset, classes_or_targets
from geomfeat.data.image_files import ImageFiles, images_in, scaling_of
from geomfeat.data.spec_options import PathWithOptions
from geomfeat.data.tables import IDS, IMAGES, MASK, Columns, columns_of_file, saved_splits
from geomfeat.data.tokens import padded, tokenized
from geomfeat.data.user_files import with_test
from geomfeat.errors import BadInput
from geomfeat.models.sources.saved_folders import path_of

# Kind -> the options that its SPEC may have.
OPTIONS = {
    "text": ("text", "label", "max_length", "tokenizer"),
    "images": ("size", "scaling"),
    "hf-dataset": ("text", "image", "label", "max_length", "tokenizer", "size", "scaling"),
}
TEST = ("test", "validation", "valid", "dev")


def from_text(source: PathWithOptions, model: Path | None) -> Dataset:
    """A file of texts: .txt, a sample in each line; .jsonl and .parquet, with columns `text` and `label` by default."""
    found = columns_of_file(source.path)
    name = source.options.get("text") or found.text_column()
    if name is None:
        raise BadInput(f"{found.where} has no column 'text': name it with the option text=COLUMN. {found.listed}")
    return _of_texts(found, name, source, model)


def from_images(source: PathWithOptions, model: Path | None) -> Dataset:
    """A folder of images, with the folders in it as classes; decoded when they are read."""
    files, classes = images_in(source.path)
    scaling = scaling_of(model, source.number("size"), source.options.get("scaling"))
    inputs = ImageFiles(files, [repr(str(file)) for file in files], scaling)
    return _known(Dataset(inputs, name=source.path.name, preprocessing=scaling.words), classes, "folders")


def from_saved(source: PathWithOptions, model: Path | None) -> Dataset:
    """A data set of Hugging Face saved to disk: texts, token ids or images, with labels; its test split apart."""
    parts = saved_splits(source.path)
    main = "train" if "train" in parts else next(iter(parts)) if len(parts) == 1 else None
    if main is None:
        listed = ", ".join(parts) or "none"
        raise BadInput(f"{str(source.path)!r} has the splits {listed}, and no train: name the folder of one of them")
    data = _of_columns(parts[main], source, model)
    other = next((name for name in TEST if name in parts and name != main), None)
    return data if other is None else with_test(data, _of_columns(parts[other], source, model), data.name)


def _of_columns(found: Columns, source: PathWithOptions, model: Path | None) -> Dataset:
    asked = source.options
    image = asked.get("image") or next((name for name in IMAGES if name in found.names), None)
    text = asked.get("text") or found.text_column()
    if "image" in asked or (image is not None and "text" not in asked and IDS not in found.names):
        return _of_images(found, str(image), source, model)
    if "text" not in asked and IDS in found.names:
        masks = found.values(MASK) if MASK in found.names else None
        inputs = padded(found.values(IDS), masks, found.where)
        return _labelled(Dataset(inputs, name=source.path.name, preprocessing="token ids as saved"), found, source)
    if text is None:
        raise BadInput(
            f"{found.where} has no column of texts, token ids ({IDS}) or images: name one with the option text=COLUMN "
            f"or image=COLUMN. {found.listed}"
        )
    return _of_texts(found, text, source, model)


def _of_texts(found: Columns, name: str, source: PathWithOptions, model: Path | None) -> Dataset:
    own = source.options.get("tokenizer")
    folder = model if own is None else path_of(own, "tokenizer")
    if folder is None:
        raise BadInput(
            f"{found.where} holds texts, and no tokenizer is known: name its folder with the option tokenizer=FOLDER, "
            "or a model that has one, hf:FOLDER"
        )
    inputs, _ = tokenized(found.texts(name), folder, source.number("max_length"), found.where)
    words = f"tokens of the tokenizer in {folder.name}, padded on the right to {inputs['input_ids'].shape[1]}"
    return _labelled(Dataset(inputs, name=source.path.stem, preprocessing=words), found, source)


def _of_images(found: Columns, name: str, source: PathWithOptions, model: Path | None) -> Dataset:
    cells = [_image(cell) for cell in found.values(name)]
    lost = next((i for i, cell in enumerate(cells) if cell is None), None)
    if lost is not None:
        raise BadInput(f"sample {lost} of {name!r} in {found.where} holds no image, nor the path of one that is there")
    scaling = scaling_of(model, source.number("size"), source.options.get("scaling"))
    names = [f"{i} of {found.where}" for i in range(len(cells))]
    inputs = ImageFiles([cell for cell in cells if cell is not None], names, scaling)
    return _labelled(Dataset(inputs, name=source.path.name, preprocessing=scaling.words), found, source)


def _image(cell: Any) -> Path | bytes | None:
    """The bytes or the file of an image as `datasets` saves it."""
    held, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
    if isinstance(held, bytes):
        return held
    return Path(path) if isinstance(path, str) and Path(path).is_file() else None


def _labelled(data: Dataset, found: Columns, source: PathWithOptions) -> Dataset:
    name = source.options.get("label") or found.label_column()
    if name is None:
        return data
    return _known(data, found.values(name), f"{name!r} of {found.where}", found.classes.get(name, ()))


def _known(data: Dataset, raw: list[Any] | None, name: str, classes: tuple[str, ...] = ()) -> Dataset:
    """The data with its labels: classes, or the values of a regression."""
    if raw is None:
        return data
    if classes and all(isinstance(value, int) for value in raw):
        if not all(0 <= value < len(classes) for value in raw):
            raise BadInput(f"{name} holds {max(raw)} or less than 0, and names {len(classes)} classes: save it again")
        return replace(data, labels=torch.tensor(raw), classes=classes)
    known, targets = classes_or_targets(raw, name)
    if known is None:
        return replace(data, targets=targets)
    return replace(data, labels=known.codes, classes=known.classes)


READERS: dict[str, Callable[[PathWithOptions, Path | None], Dataset]] = {
    "text": from_text, "images": from_images, "hf-dataset": from_saved,
}  # fmt: skip

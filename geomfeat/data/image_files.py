"""Images in files, decoded when they are read, in one size and scaled as the network was trained."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.models.sources.saved_folders import read_json
from geomfeat.models.streamed_inputs import LazyInputs, Rows

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PROCESSOR = "preprocessor_config.json"
GREY = ("1", "L", "I;16", "LA")


@dataclass(frozen=True)
class Scaling:
    """How images become inputs: `size` x `size` pixels (None: as they are), minus mean, over standard deviation."""

    size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @property
    def words(self) -> str:
        """What was done, in a sentence."""
        cut = "" if self.size is None else f"shorter side to {self.size} pixels and the middle cut out, bilinear; "
        scaled = "" if self.mean is None else f"; then mean {list(self.mean)} and deviation {list(self.std or ())}"
        return f"{cut}bytes divided by 255{scaled}"


def scaling_of(folder: Path | None, size: int | None, named: str | None) -> Scaling:
    """The scaling of a model's folder (its preprocessor_config.json), where `size` and `named` do not decide.

    named: "imagenet", or None. Raises BadInput for another name, and a size of the folder that is not square.
    """
    if named not in (None, "imagenet"):
        raise BadInput(f"scaling={named!r} is not known: scaling=imagenet, or leave it out")
    if named is not None or folder is None or not (folder / PROCESSOR).is_file():
        return Scaling(size, *(IMAGENET if named else (None, None)))
    found = read_json(folder / PROCESSOR)
    if size is None:
        size = _square(found.get("crop_size") if found.get("do_center_crop") else found.get("size"), folder)
    mean, std = (found.get(key) if found.get("do_normalize", True) else None for key in ("image_mean", "image_std"))
    return Scaling(size, *(None if t is None else tuple(map(float, t)) for t in (mean, std)))


def _square(size: Any, folder: Path) -> int | None:
    values = set(size.values()) if isinstance(size, dict) else {size}
    if len(values) != 1:
        raise BadInput(f"{folder / PROCESSOR} asks for images of {size}, which is no square: give the option size=N")
    return next(iter(values))


class ImageFiles(LazyInputs):
    """Images of equal size, (n, channels, height, width), decoded from files or bytes whenever they are read.

    They have one channel if all of `modes` are grey, and else three (red, green, blue).
    """

    def __init__(self, sources: Sequence[Path | bytes], names: Sequence[str], scaling: Scaling) -> None:
        self._sources, self._names, self._scaling = sources, names, scaling
        opened = [_header(source, name) for source, name in zip(sources, names, strict=True)]
        sizes = {size for _, size in opened}
        self._mode = "L" if all(mode in GREY for mode, _ in opened) else "RGB"
        if scaling.size is None and len(sizes) > 1:
            first, other = (next(n for n, (_, s) in zip(names, opened, strict=True) if s == size) for size in
                            sorted(sizes)[:2])  # fmt: skip
            raise BadInput(
                f"images are of several sizes, {first} of {sorted(sizes)[0]} and {other} of {sorted(sizes)[1]} (width, "
                "height): give the option size=N"
            )
        channels = 1 if self._mode == "L" else 3
        if scaling.mean is not None and len(scaling.mean) != channels:
            self._mode, channels = "RGB", 3

    @property
    def n(self) -> int:
        return len(self._sources)

    def first(self, k: int) -> Tensor:
        return self.take(slice(0, k))

    def take(self, rows: Tensor | slice) -> Tensor:
        index = torch.arange(self.n)[rows.cpu() if isinstance(rows, Tensor) else rows]
        return torch.stack([self._image(i) for i in index.tolist()])

    def batches(self, size: int, start: int = 0, stop: int | None = None) -> Iterator[tuple[slice, Tensor]]:
        return Rows(self, torch.arange(self.n)).batches(size, start, stop)

    def _image(self, i: int) -> Tensor:
        from PIL import Image, ImageOps

        try:
            with Image.open(_file(self._sources[i])) as opened:
                image = opened.convert(self._mode)
        except (OSError, ValueError, SyntaxError) as cause:
            raise BadInput(f"image {self._names[i]} is truncated or damaged ({cause}): copy it again") from cause
        if self._scaling.size is not None:
            image = ImageOps.fit(image, (self._scaling.size, self._scaling.size), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(image)).to(torch.get_default_dtype()) / 255
        pixels = pixels[None] if pixels.ndim == 2 else pixels.movedim(-1, 0)
        if self._scaling.mean is None:
            return pixels
        mean, std = (torch.tensor(t)[:, None, None] for t in (self._scaling.mean, self._scaling.std))
        return (pixels - mean) / std


def _header(source: Path | bytes, name: str) -> tuple[str, tuple[int, int]]:
    """(mode, (width, height)) without decoding the image."""
    from PIL import Image

    try:
        with Image.open(_file(source)) as opened:
            return opened.mode, opened.size
    except (OSError, ValueError, SyntaxError) as cause:
        raise BadInput(f"{name} is no image ({cause}): remove it, or copy it again") from cause


def _file(source: Path | bytes) -> Any:
    return source if isinstance(source, Path) else io.BytesIO(source)


def images_in(folder: Path) -> tuple[list[Path], list[str] | None]:
    """(files in order, the class of each: the name of the folder in which it lies; None where all lie in one place).

    Raises BadInput for a missing folder, and one without images.
    """
    if not folder.is_dir():
        raise BadInput(f"{str(folder)!r} is no folder: name one that holds images, or folders of them by class")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise BadInput(f"{str(folder)!r} holds no images ({', '.join(SUFFIXES[:3])}, ...)")
    parts = [path.relative_to(folder).parts for path in found]
    inside = [len(part) > 1 for part in parts]
    if any(inside) and not all(inside):
        beside = found[inside.index(False)]
        raise BadInput(f"{beside} lies beside the folders of classes: move it into that of its class")
    return found, [part[0] for part in parts] if all(inside) else None

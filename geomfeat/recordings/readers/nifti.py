"""NIfTI images of response patterns: a volume for each trial, voxels of a mask as units (needs nibabel)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from geomfeat.errors import BadInput
from geomfeat.recordings.readers.named_arrays import with_label_table
from geomfeat.recordings.readers.raw_recording import RawRecording
from geomfeat.recordings.trial_labels import TRIAL_FIELDS
from geomfeat.storage.owned_files import as_path

TAKEN = (*TRIAL_FIELDS, "area", "labels", "classes", "mask")
SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img")
SAME_PLACE = 1e-3  # millimetres


def is_image(source: Any) -> bool:
    """Whether an object has what an image of nibabel has."""
    return all(hasattr(source, name) for name in ("dataobj", "affine", "shape"))


def from_nifti(path: Path, given: Mapping[str, Any]) -> RawRecording:
    """A 4-D image; see `from_image`."""
    return from_image(_loaded(path), given, str(path), path.name.partition(".")[0])


def from_image(image: Any, given: Mapping[str, Any], where: str = "the image", name: str = "") -> RawRecording:
    """Voxels of mask= (an image, its path, or an array: not zero inside) as units, named "i,j,k"; volumes as trials.

    A mask of several numbers is an atlas: the number of a voxel is its area. Labels come as arrays, or as columns of
    labels=, a table with a row for each volume. Raises BadInput for images that are not 4-D, no mask, one of another
    shape or place, and an empty one.
    """
    shape = tuple(image.shape)
    if len(shape) != 4:
        raise BadInput(
            f"{where} has shape {shape}: give a 4-D image, one volume for each trial (single-trial patterns)"
        )
    if given.get("mask") is None:
        raise BadInput(f"{where} needs mask=, an image that is not zero inside the region: voxels outside are no units")
    mask = _mask(given["mask"], image, shape, where)
    inside = mask != 0
    values = np.unique(mask[inside])
    if not len(values):
        raise BadInput(f"mask= of {where} is zero everywhere: no voxel is inside")
    x = np.asanyarray(image.dataobj)[inside].T
    voxels = [",".join(map(str, place)) for place in np.argwhere(inside).tolist()]
    more: dict[str, Any] = {"unit": voxels}
    if len(values) > 1 and "area" not in given:
        more["area"] = _whole(mask[inside], where)
    rest = {field: value for field, value in given.items() if field != "mask"}
    return with_label_table(np.ascontiguousarray(x), rest, where, name, more)


def _mask(given: Any, image: Any, shape: tuple[int, ...], where: str) -> np.ndarray:
    if isinstance(given, np.ndarray):
        mask = given
    else:
        other = given if is_image(given) else _loaded(as_path(given, "mask"))
        mask = np.asanyarray(other.dataobj)
        affines = np.asarray(image.affine, dtype=float), np.asarray(other.affine, dtype=float)
        if not np.allclose(*affines, rtol=0, atol=SAME_PLACE):
            raise BadInput(f"mask= and {where} are of different places (affine): resample the mask to the image first")
    mask = mask[..., 0] if mask.ndim == 4 and mask.shape[3] == 1 else mask
    if mask.shape != shape[:3]:
        raise BadInput(f"mask= has shape {mask.shape}, and {where} volumes of {shape[:3]}: resample the mask first")
    if mask.dtype.kind == "f" and bool(np.isnan(mask).any()):
        raise BadInput(f"mask= holds {int(np.isnan(mask).sum())} NaN: set them to zero")
    return mask


def _whole(values: np.ndarray, where: str) -> np.ndarray:
    if bool((values != np.round(values)).any()):
        raise BadInput(f"mask= of {where} holds fractions: threshold it, mask > 0.5, or give whole numbers for areas")
    return values.astype(np.int64)


def _loaded(path: Path) -> Any:
    try:
        import nibabel  # pyright: ignore[reportMissingImports]
    except ImportError as cause:
        raise BadInput(f"{str(path)!r} is a NIfTI image, which needs nibabel: pip install nibabel") from cause
    if not path.is_file():
        raise BadInput(f"no such file: {str(path)!r}")
    try:
        return nibabel.load(path)
    except (OSError, ValueError, nibabel.filebasedimages.ImageFileError) as cause:
        raise BadInput(f"{str(path)!r} is damaged, or no NIfTI image ({str(cause)[:200]}): copy it again") from cause

"""Images in files: decoded when they are read, in one size, scaled as asked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from geomfeat.data.image_files import IMAGENET, ImageFiles, Scaling, images_in, scaling_of
from geomfeat.errors import BadInput


def pixels(seed: int, height: int = 6, width: int = 6, channels: int = 3) -> np.ndarray:
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [write(tmp_path / f"{i}.png", pixels(i)) for i in range(5)]


def read(files: list[Path], scaling: Scaling = Scaling()) -> ImageFiles:  # noqa: B008 - it is frozen
    return ImageFiles(files, [str(file) for file in files], scaling)


def test_pixels_are_the_bytes_over_255(files: list[Path]) -> None:
    found = read(files)
    want = torch.stack([torch.from_numpy(pixels(i)).permute(2, 0, 1) / 255 for i in range(5)])
    assert found.n == 5
    assert torch.equal(found.take(slice(None)), want)
    assert torch.equal(found.take(torch.tensor([3, 1])), want[[3, 1]])
    assert torch.equal(found.first(2), want[:2])
    parts = list(found.batches(2, 1, 5))
    assert [(rows.start, rows.stop) for rows, _ in parts] == [(0, 2), (2, 4)]
    assert torch.equal(torch.cat([part for _, part in parts]), want[1:])


def test_grey_images_have_one_channel_unless_others_are_coloured(tmp_path: Path) -> None:
    grey, colour = write(tmp_path / "g.png", pixels(0, channels=1)), write(tmp_path / "c.png", pixels(1))
    assert read([grey]).first(1).shape == (1, 1, 6, 6)
    both = read([grey, colour]).first(2)
    assert both.shape == (2, 3, 6, 6)
    assert torch.equal(both[0, 0], both[0, 2])
    assert read([grey], Scaling(mean=IMAGENET[0], std=IMAGENET[1])).first(1).shape == (1, 3, 6, 6)


def test_the_middle_of_the_shorter_side_is_kept(tmp_path: Path) -> None:
    wide = pixels(0, height=8, width=12)
    found = read([write(tmp_path / "w.png", wide)], Scaling(8)).first(1)[0]
    assert torch.equal(found, torch.from_numpy(wide[:, 2:10]).permute(2, 0, 1) / 255)
    flat = write(tmp_path / "flat.png", np.full((30, 20, 3), 51, np.uint8))
    assert_close(read([flat], Scaling(7)).first(1), torch.full((1, 3, 7, 7), 0.2))


def test_scaling_by_name_and_by_the_folder_of_the_model(tmp_path: Path, files: list[Path]) -> None:
    made = {"size": {"height": 4, "width": 4}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(made))
    assert scaling_of(tmp_path, None, None) == Scaling(4, (0.5,) * 3, (0.25,) * 3)
    assert scaling_of(tmp_path, 9, None).size == 9
    assert scaling_of(tmp_path, None, "imagenet") == Scaling(None, *IMAGENET)
    assert scaling_of(None, None, None) == scaling_of(tmp_path / "none", None, None) == Scaling()
    plain = read(files).first(2)
    assert_close(read(files, Scaling(None, (0.5,) * 3, (0.25,) * 3)).first(2), (plain - 0.5) / 0.25)
    cropped = {"do_center_crop": True, "crop_size": 5, "do_normalize": False, "size": {"shortest_edge": 6}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(made | cropped))
    assert scaling_of(tmp_path, None, None) == Scaling(5)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 4, "width": 6}}))
    with pytest.raises(BadInput, match="is no square: give the option size=N"):
        scaling_of(tmp_path, None, None)
    with pytest.raises(BadInput, match="scaling='clip' is not known"):
        scaling_of(None, None, "clip")


def test_images_of_several_sizes_need_one(files: list[Path], tmp_path: Path) -> None:
    other = write(tmp_path / "wide.png", pixels(0, width=9))
    with pytest.raises(BadInput, match=r"0\.png of \(6, 6\) and .*wide\.png of \(9, 6\).*size=N"):
        read([*files, other])
    assert read([*files, other], Scaling(6)).first(6).shape == (6, 3, 6, 6)


def test_damaged_images_are_named(files: list[Path]) -> None:
    files[3].write_bytes(files[3].read_bytes()[:80])
    found = read(files)
    with pytest.raises(BadInput, match=r"3\.png is truncated or damaged"):
        found.take(torch.tensor([3]))
    files[2].write_bytes(b"text")
    with pytest.raises(BadInput, match=r"2\.png is no image"):
        read(files)


def test_folders_are_classes(tmp_path: Path) -> None:
    for name in ("b/1.png", "a/x/2.png", "a/1.JPG"):
        write(tmp_path / name, pixels(0))
    found, classes = images_in(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a/1.JPG", "a/x/2.png", "b/1.png"]
    assert classes == ["a", "a", "b"]
    assert images_in(tmp_path / "b")[1] is None
    write(tmp_path / "0.png", pixels(0))
    with pytest.raises(BadInput, match=r"0\.png lies beside the folders of classes"):
        images_in(tmp_path)
    with pytest.raises(BadInput, match="is no folder"):
        images_in(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="holds no images"):
        images_in(tmp_path / "empty")

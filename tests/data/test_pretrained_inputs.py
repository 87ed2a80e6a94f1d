"""Texts, images and saved data sets by SPEC, with the tokenizer and scaling of the model that they are for."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from PIL import Image

import geomfeat as gf
from geomfeat.data.dataset import IN_MEMORY, Dataset
from geomfeat.data.image_files import ImageFiles, Scaling
from geomfeat.errors import BadInput
from geomfeat.models.streamed_inputs import Rows
from tests.data.test_image_files import pixels, write
from tests.data.test_tables import saved
from tests.models.sources.tiny import adapter, gpt, with_tokenizer

SENTENCES = [("the cat sat", "animal"), ("a red log", "thing"), ("the old dog ran", "animal"), ("a mat", "thing")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_tokenizer(gpt(tmp_path_factory.mktemp("gpt")))


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    rows = [{"body": text, "title": "x", "kind": kind, "stars": i / 2} for i, (text, kind) in enumerate(SENTENCES)]
    (tmp_path / "reviews.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "reviews.jsonl"


def test_texts_with_named_columns(reviews: Path, model: Path) -> None:
    data = gf.load_data(f"text:{reviews}:text=body,label=kind", model=f"hf:{model}")
    assert data.inputs["input_ids"].shape == (4, 4)
    assert data.inputs["attention_mask"].sum(1).tolist() == [3, 3, 4, 2]
    assert (data.classes, data.labels.tolist()) == (("animal", "thing"), [0, 1, 0, 1])  # type: ignore[union-attr]
    small = gf.load_data(f"text:{reviews}:text=body,label=kind,tokenizer={model},max_length=2", n=2)
    assert small.inputs["input_ids"].shape == (2, 2)
    assert sorted(small.labels.tolist()) == [0, 1]  # type: ignore[union-attr]
    values = gf.load_data(f"text:{reviews}:text=body,label=stars", model=model)
    assert values.targets is not None
    assert values.targets[:, 0].tolist() == [0, 0.5, 1, 1.5]


def test_the_tokenizer_of_an_adapter_is_that_of_its_base(reviews: Path, model: Path, tmp_path: Path) -> None:
    own = adapter(tmp_path / "adapter", gf.load_model(f"hf:{model}"))
    data, want = (gf.load_data(f"text:{reviews}:text=body", model=f"hf:{path}") for path in (own, model))
    assert torch.equal(data.inputs["input_ids"], want.inputs["input_ids"])


def test_texts_that_cannot_be_read(reviews: Path, model: Path) -> None:
    with pytest.raises(BadInput, match=r"no column 'text': name it with the option text=COLUMN. Columns: body"):
        gf.load_data(f"text:{reviews}", model=model)
    with pytest.raises(BadInput, match="no tokenizer is known: name its folder with the option tokenizer=FOLDER"):
        gf.load_data(f"text:{reviews}:text=body")
    with pytest.raises(BadInput, match=r"data='text:.*' names no file|no option 'column'"):
        gf.load_data(f"text:{reviews}:column=body", model=model)


def test_images_are_decoded_when_they_are_read(tmp_path: Path) -> None:
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        write(tmp_path / "zoo" / name, pixels(0))
    data = gf.load_data(f"images:{tmp_path / 'zoo'}:size=4")
    assert isinstance(data.inputs, ImageFiles)
    assert (data.n, data.classes, data.labels.tolist()) == (3, ("cat", "dog"), [0, 0, 1])  # type: ignore[union-attr]
    assert data.subsample(2).inputs.shape == (2, 3, 4, 4)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2))
    features = gf.extract(net, data, layers="1", progress=False)["1"]
    assert torch.equal(features.x, net(data.inputs.take(slice(None))).detach())


def test_many_images_stay_in_their_files(tmp_path: Path) -> None:
    file, n = write(tmp_path / "1.png", pixels(0, 2, 2)), IN_MEMORY + 5
    inputs = ImageFiles([file] * n, ["it"] * n, Scaling())
    part = Dataset(inputs, torch.arange(n) % 2).subsample(IN_MEMORY + 1)
    assert isinstance(part.inputs, Rows)
    assert part.n == len(part.labels) == IN_MEMORY + 1  # type: ignore[arg-type]
    assert torch.equal(part.inputs.first(1), inputs.first(1))


def test_rows_of_lazy_inputs_are_in_the_chosen_order(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{i}.png", pixels(i)) for i in range(4)]
    whole = ImageFiles(files, list(map(str, files)), Scaling())
    chosen, every = Rows(whole, torch.tensor([3, 0, 2])), whole.take(slice(None))
    assert torch.equal(chosen.take(torch.tensor([2, 0])), every[[2, 3]])
    assert torch.equal(torch.cat([part for _, part in chosen.batches(2, 1)]), every[[0, 2]])


def test_saved_texts_with_a_test_split(tmp_path: Path, model: Path) -> None:
    kinds = {"label": {"names": ["thing", "animal"], "_type": "ClassLabel"}}
    table = pa.table({"text": [text for text, _ in SENTENCES], "label": [int(k == "animal") for _, k in SENTENCES]})
    saved(tmp_path / "d" / "train", table, features=kinds)
    saved(tmp_path / "d" / "test", table.slice(0, 2), features=kinds)
    (tmp_path / "d" / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    data = gf.load_data(f"hf-dataset:{tmp_path / 'd'}", model=model)
    assert data.classes == ("thing", "animal")
    assert data.labels.tolist() == [1, 0, 1, 0]  # type: ignore[union-attr]
    assert data.testing().labels.tolist() == [1, 0]  # type: ignore[union-attr]
    assert gf.load_data(f"hf-dataset:{tmp_path / 'd'}", model=model, split="test").n == 2


def test_saved_token_ids(tmp_path: Path) -> None:
    table = pa.table({"input_ids": [[3, 4, 5], [6]], "attention_mask": [[1, 1, 1], [1]], "labels": [[3, 4, 5], [6]]})
    data = gf.load_data(f"hf-dataset:{saved(tmp_path / 'd', table)}")
    assert data.inputs["input_ids"].tolist() == [[3, 4, 5], [6, 0, 0]]
    assert data.inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert data.known is None


def test_saved_images(tmp_path: Path) -> None:
    cells = []
    for i in range(2):
        file = io.BytesIO()
        Image.fromarray(pixels(i)).save(file, "png")
        cells.append({"bytes": file.getvalue(), "path": None})
    data = gf.load_data(f"hf-dataset:{saved(tmp_path / 'd', pa.table({'image': cells, 'label': [4, 7]}))}")
    assert torch.equal(data.inputs.first(2)[1], torch.from_numpy(pixels(1)).permute(2, 0, 1) / 255)
    assert data.labels.tolist() == [4, 7]  # type: ignore[union-attr]
    lost = pa.table({"image": [{"bytes": None, "path": "gone.png"}]})
    with pytest.raises(BadInput, match=r"sample 0 of 'image' .* holds no image"):
        gf.load_data(f"hf-dataset:{saved(tmp_path / 'lost', lost)}")


def test_saved_data_without_inputs_or_without_train(tmp_path: Path, model: Path) -> None:
    numbers = saved(tmp_path / "numbers", pa.table({"n": [1, 2]}))
    with pytest.raises(BadInput, match=r"no column of texts, token ids \(input_ids\) or images.*Columns: n"):
        gf.load_data(f"hf-dataset:{numbers}", model=model)
    shutil.move(numbers, tmp_path / "d" / "a")
    (tmp_path / "d" / "dataset_dict.json").write_text(json.dumps({"splits": ["a", "b"]}))
    shutil.copytree(tmp_path / "d" / "a", tmp_path / "d" / "b")
    with pytest.raises(BadInput, match="has the splits a, b, and no train"):
        gf.load_data(f"hf-dataset:{tmp_path / 'd'}", model=model)

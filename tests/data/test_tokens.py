"""Texts as token ids: padding, masks, and what the model of the tokenizer does not take."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from geomfeat.data.tokens import padded, tokenized, tokenizer_in
from geomfeat.errors import BadInput
from geomfeat.models.sources import load_model
from tests.models.sources.tiny import POSITIONS, WORDS, bert_config, gpt, made, saved, with_tokenizer

TEXTS = ["the cat sat on the mat", "a dog ran", "the red dog"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_tokenizer(gpt(tmp_path_factory.mktemp("gpt")))


def test_ids_and_masks_are_those_of_the_tokenizer(folder: Path) -> None:
    inputs, limits = tokenized(TEXTS, folder, None, "texts")
    want = tokenizer_in(folder)(TEXTS, padding=True, return_tensors="pt")
    assert torch.equal(inputs["input_ids"], want["input_ids"])
    assert torch.equal(inputs["attention_mask"], want["attention_mask"])
    assert inputs["input_ids"][1, :3].tolist() == [WORDS.index(word) for word in TEXTS[1].split()]
    assert limits.positions == POSITIONS


@pytest.mark.parametrize("kind", ["gpt", "bert"])
def test_padding_does_not_change_what_is_computed(folder: Path, tmp_path: Path, kind: str) -> None:
    if kind == "bert":
        folder = with_tokenizer(saved(made("BertModel", bert_config()), tmp_path))
    model, (inputs, _) = load_model(f"hf:{folder}"), tokenized(TEXTS, folder, None, "texts")
    with torch.no_grad():
        together = model(**inputs)[0]
        for i, text in enumerate(TEXTS):
            alone = model(**tokenized([text], folder, None, "text")[0])[0][0]
            torch.testing.assert_close(together[i, : len(alone)], alone)


def test_a_tokenizer_without_padding_token(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    with_tokenizer(tmp_path)
    plain = AutoTokenizer.from_pretrained(tmp_path)
    plain.pad_token = None
    plain.save_pretrained(tmp_path / "plain")
    inputs, limits = tokenized(TEXTS, tmp_path / "plain", None, "texts")
    assert inputs["attention_mask"].sum(1).tolist() == [6, 3, 3]
    assert inputs["input_ids"][1, 3:].tolist() == [0, 0, 0]
    assert limits.positions is None


def test_longer_texts_are_refused_or_cut(folder: Path) -> None:
    long = " ".join(["cat"] * 20)
    with pytest.raises(BadInput, match=rf"of 20 tokens, and the model has {POSITIONS} positions.*max_length=12"):
        tokenized([long], folder, None, "texts")
    assert tokenized([long], folder, POSITIONS, "texts")[0]["input_ids"].shape == (1, POSITIONS)
    with pytest.raises(BadInput, match=f"max_length=13 is more than the {POSITIONS} positions"):
        tokenized([long], folder, 13, "texts")


def test_a_vocabulary_that_is_too_small(tmp_path: Path) -> None:
    folder = with_tokenizer(gpt(tmp_path), [*WORDS, *(f"word{i}" for i in range(50))])
    tokenized(["the cat"], folder, None, "texts")
    with pytest.raises(BadInput, match=r"token id 58, and the model's vocabulary has 50 entries \(0 to 49\)"):
        tokenized(["the word40"], folder, None, "texts")


def test_a_text_without_tokens(folder: Path) -> None:
    with pytest.raises(BadInput, match="sample 1 has no tokens"):
        tokenized(["cat", " "], folder, None, "texts")


def test_a_missing_and_a_damaged_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no tokenizer: .* holds none of tokenizer\.json.*tokenizer=FOLDER"):
        tokenizer_in(gpt(tmp_path))
    with pytest.raises(BadInput, match=r"no tokenizer: .* is no folder"):
        tokenizer_in(tmp_path / "none")
    (with_tokenizer(tmp_path) / "tokenizer.json").write_text("{")
    with pytest.raises(BadInput, match=r"the tokenizer in .* cannot be read"):
        tokenizer_in(tmp_path)


def test_saved_masks_are_kept() -> None:
    found = padded([[5, 6, 7], [8]], [[1, 0, 1], [1]], "tokens")
    assert found["attention_mask"].tolist() == [[1, 0, 1], [1, 0, 0]]
    assert found["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]

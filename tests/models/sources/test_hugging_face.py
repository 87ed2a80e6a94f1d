"""Folders of save_pretrained: what is loaded is what transformers loads, and what is wrong is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from geomfeat.errors import BadInput, CheckpointMismatch
from geomfeat.models.sources import load_model
from geomfeat.models.sources._load_model import source_of
from tests.models.sources.tiny import (
    VOCABULARY,
    WIDTH,
    bert_config,
    classifier,
    gpt,
    gpt_config,
    made,
    saved,
    tokens,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gpt(tmp_path_factory.mktemp("gpt"))


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def assert_same_weights(one: nn.Module, other: nn.Module) -> None:
    a, b = one.state_dict(), other.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def changed(path: Path, **changes: Any) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | changes))


def test_it_is_the_model_of_from_pretrained(folder: Path) -> None:
    from transformers import GPT2LMHeadModel

    random = torch.get_rng_state()
    model = load_model(f"hf:{folder}")
    assert torch.equal(torch.get_rng_state(), random)
    want = GPT2LMHeadModel.from_pretrained(folder, local_files_only=True).eval()
    assert type(model) is GPT2LMHeadModel
    assert not model.training
    assert_same_weights(model, want)
    assert torch.equal(model(tokens()).logits, want(tokens()).logits)


def test_a_relative_folder_and_weights_in_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpt(tmp_path / "parts", max_shard_size="10KB")
    monkeypatch.chdir(tmp_path)
    assert len(list(Path("parts").glob("*.safetensors"))) > 2
    assert_same_weights(load_model("hf:parts"), made("GPT2LMHeadModel", gpt_config()))


@pytest.mark.parametrize("kind", ["BertModel", "BertForSequenceClassification", "BertForMaskedLM"])
def test_the_head_is_that_of_the_config(tmp_path: Path, kind: str) -> None:
    saved(made(kind, bert_config()), tmp_path)
    assert type(load_model(f"hf:{tmp_path}")).__name__ == kind


def test_a_config_without_architecture_gives_the_base_without_the_head(copied: Path) -> None:
    changed(copied, architectures=None)
    model = load_model(f"hf:{copied}")
    assert type(model).__name__ == "GPT2Model"
    assert_same_weights(model, made("GPT2LMHeadModel", gpt_config()).transformer)


def test_a_class_that_transformers_lacks_is_reported(copied: Path, caplog: pytest.LogCaptureFixture) -> None:
    changed(copied, architectures=["OwnHead"])
    assert type(load_model(f"hf:{copied}")).__name__ == "GPT2Model"
    assert "no class OwnHead" in caplog.text


def test_a_folder_of_sentence_transformers(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "0_Transformer")
    kinds = [("0_Transformer", "models.Transformer"), ("1_Pooling", "models.Pooling")]
    parts = [{"idx": i, "path": path, "type": f"sentence_transformers.{kind}"} for i, (path, kind) in enumerate(kinds)]
    (tmp_path / "modules.json").write_text(json.dumps(parts))
    assert_same_weights(load_model(f"hf:{tmp_path}"), load_model(f"hf:{folder}"))
    (tmp_path / "modules.json").write_text(json.dumps(parts[1:]))
    with pytest.raises(BadInput, match="lists no Transformer"):
        load_model(f"hf:{tmp_path}")


def test_fresh_weights_are_drawn_as_transformers_draws_them(folder: Path) -> None:
    source = source_of(f"hf:{folder}")
    with torch.random.fork_rng():
        torch.manual_seed(5)
        drawn, again = source.fresh(), source.fresh()
    assert_same_weights(drawn, made("GPT2LMHeadModel", gpt_config(), seed=5))
    assert not torch.equal(drawn.state_dict()["transformer.wte.weight"], again.state_dict()["transformer.wte.weight"])


def test_other_weights_in_the_same_network(folder: Path, tmp_path: Path) -> None:
    other = made("GPT2LMHeadModel", gpt_config(), seed=1)
    saved(other, tmp_path / "checkpoint-10")
    torch.save(other.state_dict(), tmp_path / "pytorch_model.bin")
    for weights in (tmp_path / "checkpoint-10", f"hf:{tmp_path / 'checkpoint-10'}", tmp_path / "pytorch_model.bin"):
        assert_same_weights(load_model(f"hf:{folder}", weights=weights), other)


def test_a_pretrained_start_draws_the_head_it_lacks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base = made("BertModel", bert_config(), seed=3)
    saved(base, tmp_path / "base")
    source = source_of(f"hf:{classifier(tmp_path / 'tuned')}")
    start, again = source.start(tmp_path / "base"), source.start(tmp_path / "base")
    assert_same_weights(start.bert, base)  # type: ignore[arg-type]
    assert_same_weights(start, again)
    assert "classifier.weight" in caplog.text
    assert "fresh draw" in caplog.text
    with pytest.raises(BadInput, match="does not say from which folder"):
        source.pretrained()
    changed(tmp_path / "tuned", _name_or_path=str(tmp_path / "base"))
    assert_same_weights(source_of(f"hf:{tmp_path / 'tuned'}").pretrained(), start)


def test_a_start_of_another_body_is_refused(folder: Path, tmp_path: Path) -> None:
    source = source_of(f"hf:{classifier(tmp_path / 'tuned')}")
    with pytest.raises(CheckpointMismatch, match=r"bert\.embeddings\.word_embeddings\.weight missing in the files"):
        source.start(folder)


def test_weights_of_another_config_are_listed_with_their_shapes(copied: Path) -> None:
    changed(copied, n_embd=8, n_layer=3)
    with pytest.raises(CheckpointMismatch) as found:
        load_model(f"hf:{copied}")
    said = str(found.value)
    assert f"transformer.wte.weight {(VOCABULARY, WIDTH)} in the files, {(VOCABULARY, 8)} by its config" in said
    assert "; and " in said
    assert said.count("in the files") == 5


def test_weights_that_the_config_lacks_are_listed(copied: Path) -> None:
    changed(copied, n_layer=1)
    with pytest.raises(CheckpointMismatch, match=rf"h\.1\.attn\.c_attn\.weight \({WIDTH}, {3 * WIDTH}\) in the files"):
        load_model(f"hf:{copied}")


def test_nan_weights_are_named_by_layer(copied: Path) -> None:
    file = copied / "model.safetensors"
    state = load_file(file)
    state["transformer.h.1.mlp.c_fc.bias"][:3] = float("nan")
    state["transformer.ln_f.weight"][0] = float("inf")
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(BadInput, match=r"in 2 layers: transformer\.h\.1\.mlp\.c_fc \(bias: 3 of 64\), transformer\.l"):
        load_model(f"hf:{copied}")


def test_code_of_the_folder_is_not_run(copied: Path) -> None:
    (copied / "own.py").write_text("raise SystemExit('it ran')")
    changed(copied, model_type="own", auto_map={"AutoConfig": "own.Config", "AutoModel": "own.Model"})
    with pytest.raises(BadInput, match=r"Code of a model's folder is not run.*FILE\.py:factory"):
        load_model(f"hf:{copied}")


def test_an_unknown_kind_of_model_is_refused(copied: Path) -> None:
    changed(copied, model_type="never_heard_of")
    with pytest.raises(BadInput, match=r"cannot be loaded by transformers: .*never_heard_of"):
        load_model(f"hf:{copied}")

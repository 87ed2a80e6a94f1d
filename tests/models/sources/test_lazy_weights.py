"""Weights that stay on disk: the network is that of the folder, and its tensors are those of the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from geomfeat.errors import BadInput, CheckpointMismatch
from geomfeat.models.sources import load_model
from geomfeat.models.sources._load_model import source_of
from geomfeat.models.sources.lazy_weights import LazyWeights, lazy_weights
from tests.models.sources.tiny import bert_config, gpt, gpt_config, made, saved


def lazy(folder: Path) -> LazyWeights:
    return lazy_weights(source_of(f"hf:{folder}"), "model")


def rewritten(folder: Path, change: Any) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file(change(weights), folder / "model.safetensors", metadata={"format": "pt"})


def llama(folder: Path, **changes: Any) -> Path:
    from transformers import LlamaConfig

    sizes = {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
    config = LlamaConfig(**sizes | {"vocab_size": 50, "max_position_embeddings": 12} | changes)
    return saved(made("LlamaForCausalLM", config).bfloat16(), folder)


def assert_same(found: LazyWeights, folder: Path) -> None:
    whole = load_model(f"hf:{folder}")
    state = whole.state_dict()
    read = found.read(found.stored)
    assert read.keys() == state.keys()
    for name, value in read.items():
        assert value.dtype == state[name].dtype
        assert torch.equal(value, state[name])
    assert found.shapes == {name: tuple(p.shape) for name, p in whole.named_parameters()}
    buffers = dict(whole.named_buffers())
    assert all(torch.equal(b, buffers[name]) for name, b in found.network.named_buffers() if name not in state)
    assert all(bool(p.isnan().all()) and p.untyped_storage().nbytes() <= 8 for p in found.network.parameters())


def test_names_shapes_values_and_buffers_are_those_of_the_model(tmp_path: Path) -> None:
    random = torch.get_rng_state()
    assert_same(lazy(gpt(tmp_path / "gpt")), tmp_path / "gpt")
    llama(tmp_path / "llama")
    assert_same(lazy(tmp_path / "llama"), tmp_path / "llama")
    saved(made("BertForSequenceClassification", bert_config()), tmp_path / "bert", max_shard_size="10KB")
    assert_same(lazy(tmp_path / "bert"), tmp_path / "bert")
    assert lazy(tmp_path / "llama").dtype == torch.bfloat16
    assert torch.equal(torch.get_rng_state(), random)


def test_files_of_the_body_alone_are_read_into_the_model_with_its_head(tmp_path: Path) -> None:
    gpt(tmp_path)
    rewritten(tmp_path, lambda weights: {name.removeprefix("transformer."): w for name, w in weights.items()})
    assert_same(lazy(tmp_path), tmp_path)


def test_a_tied_weight_may_be_saved_under_either_name_or_both(tmp_path: Path) -> None:
    gpt(tmp_path)
    rewritten(tmp_path, lambda w: w | {"lm_head.weight": w["transformer.wte.weight"].clone()})
    found = lazy(tmp_path)
    assert "lm_head.weight" not in found.shapes
    rewritten(tmp_path, lambda w: {k: v for k, v in w.items() if k != "transformer.wte.weight"})
    read = lazy(tmp_path).read(["transformer.wte.weight", "lm_head.weight"])
    assert read["transformer.wte.weight"] is read["lm_head.weight"]


def test_weights_of_another_config_are_refused_with_their_names(tmp_path: Path) -> None:
    gpt(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"n_layer": 1}))
    with pytest.raises(CheckpointMismatch, match=r"1[12] differ, transformer.h.1.attn.c_attn.\w+ \(.*48,?\) in the"):
        _ = lazy(tmp_path).stored
    (tmp_path / "config.json").write_text(json.dumps(config | {"n_layer": 3}))
    with pytest.raises(CheckpointMismatch, match=r"12 differ, .* missing in the files.*load_model\('hf:FOLDER'\)"):
        _ = lazy(tmp_path).stored
    (tmp_path / "config.json").write_text(json.dumps(config | {"n_embd": 8}))
    with pytest.raises(CheckpointMismatch, match=r"\(50, 16\) in the files, \(50, 8\) by its config"):
        _ = lazy(tmp_path).stored


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    gpt(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BadInput, match="half-written"):
        _ = lazy(tmp_path).stored


def test_what_is_no_folder_of_weights_is_refused(tmp_path: Path) -> None:
    gpt(tmp_path)
    for source in (source_of("geomfeat.models.mlp:mlp"), source_of(f"hf:{tmp_path}", weights=tmp_path)):
        with pytest.raises(BadInput, match=r"initial is .* cannot be read one by one: give hf:FOLDER"):
            lazy_weights(source, "initial")


def test_the_precision_is_the_stored_one_where_a_class_keeps_several(tmp_path: Path) -> None:
    gpt(tmp_path)
    found = lazy(tmp_path)
    assert found.dtype == torch.float32
    kind = type(found.source.kind.__name__, (found.source.kind,), {"_keep_in_fp32_modules": ["wte"]})
    found.source.__dict__["kind"] = kind
    assert LazyWeights(found.source).dtype is None
    assert gpt_config().n_layer == 2

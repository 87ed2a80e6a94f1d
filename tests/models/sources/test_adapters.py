"""Adapters of peft: unmerged, merged, drawn anew; without their base, or of another one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from geomfeat.errors import BadInput, CheckpointMismatch
from geomfeat.models.sources import load_model
from geomfeat.models.sources._load_model import source_of
from tests.models.sources.tiny import adapter, gpt, gpt_config, lora, made, saved, tokens


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gpt(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def folder(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adapter(tmp_path_factory.mktemp("adapter"), load_model(f"hf:{base}"), seed=1)


def outputs(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=tokens()).logits


def test_the_adapter_stays_unmerged_on_its_base(base: Path, folder: Path) -> None:
    model, want = load_model(f"hf:{base}", adapter=folder), lora(load_model(f"hf:{base}"), seed=1)
    assert type(model).__name__ == "PeftModelForCausalLM"
    assert not model.training
    assert model.state_dict().keys() == want.state_dict().keys()
    assert torch.equal(outputs(model), outputs(want))
    assert not torch.equal(outputs(model), outputs(load_model(f"hf:{base}")))


def test_the_folder_of_an_adapter_alone_finds_its_base(base: Path, folder: Path) -> None:
    want = outputs(load_model(f"hf:{base}", adapter=folder))
    assert torch.equal(outputs(load_model(f"hf:{folder}")), want)
    assert torch.equal(outputs(load_model(f"hf:{base}", weights=folder)), want)


def test_a_fresh_adapter_leaves_the_function_of_the_base(base: Path, folder: Path) -> None:
    source = source_of(f"hf:{base}", adapter=folder)
    one, other = source.fresh(), source.fresh()
    assert torch.equal(outputs(one), outputs(load_model(f"hf:{base}")))
    first = next(name for name in one.state_dict() if "lora_A" in name)
    assert not torch.equal(one.state_dict()[first], other.state_dict()[first])
    assert not any(value.any() for name, value in one.state_dict().items() if "lora_B" in name)


def test_merged_into_the_pretrained_weights_it_is_the_same_function(base: Path, folder: Path) -> None:
    source = source_of(f"hf:{base}", adapter=folder).in_pretrained_weights()
    start, end = source.pretrained(), source.load()
    assert_close(outputs(end), outputs(load_model(f"hf:{base}", adapter=folder)))
    assert torch.equal(outputs(start), outputs(load_model(f"hf:{base}")))
    assert start.state_dict().keys() == end.state_dict().keys()
    moved = {name for name, value in end.state_dict().items() if not torch.equal(value, start.state_dict()[name])}
    assert moved == {f"transformer.h.{i}.attn.c_attn.weight" for i in (0, 1)}


def test_another_moment_of_the_adapter(base: Path, folder: Path, tmp_path: Path) -> None:
    early = adapter(tmp_path / "checkpoint-1", load_model(f"hf:{base}"), seed=2)
    source = source_of(f"hf:{base}", adapter=folder)
    assert torch.equal(outputs(source.at(early)), outputs(load_model(f"hf:{base}", adapter=early)))
    with pytest.raises(BadInput, match="is no folder of an adapter: give the one saved before training"):
        source.start(base)


def test_on_a_network_that_is_not_of_transformers(tmp_path: Path) -> None:
    net = load_model("geomfeat.models.mlp:mlp")
    names = [name for name, m in net.named_modules() if isinstance(m, torch.nn.Linear)][:1]
    own = adapter(tmp_path / "own", net, task_type=None, target_modules=names, fan_in_fan_out=False)
    (tmp_path / "net.py").write_text("from geomfeat.models.mlp import mlp\n\n\ndef make():\n    return mlp(seed=0)\n")
    model = load_model(f"{tmp_path / 'net.py'}:make", adapter=own)
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(model(x), load_model(f"{tmp_path / 'net.py'}:make")(x))


def test_an_adapter_without_its_base(base: Path, folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    config = json.loads((copy / "adapter_config.json").read_text())
    for name, words in (("meta/large", "its base, 'meta/large', is no folder here"), (None, "it names no base")):
        (copy / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": name}))
        with pytest.raises(BadInput, match=rf"{words}\. Give both, hf:BASE .*nothing is downloaded"):
            load_model(f"hf:{copy}")
    load_model(f"hf:{base}", adapter=copy)


def test_an_adapter_of_another_base(folder: Path, tmp_path: Path) -> None:
    wider = saved(made("GPT2LMHeadModel", gpt_config(n_embd=8)), tmp_path / "wider")
    with pytest.raises(CheckpointMismatch, match=r"lora_A\.weight \(2, 16\) in the files, \(2, 8\) by its adapter_con"):
        load_model(f"hf:{wider}", adapter=folder)
    with pytest.raises(BadInput, match=r"does not fit the base Sequential: .*c_attn"):
        load_model("geomfeat.models.mlp:mlp", adapter=folder)


def test_a_half_written_adapter(base: Path, folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    file = copy / "adapter_model.safetensors"
    state = load_file(file)
    first = next(iter(state))
    save_file({name: value for name, value in state.items() if name != first}, file)
    with pytest.raises(CheckpointMismatch, match=rf"1 differs, {first} missing in the files"):
        load_model(f"hf:{base}", adapter=copy)
    state[first][0] = float("nan")
    save_file(state, file)
    with pytest.raises(BadInput, match=rf"tensor '{first}' .* NaN"):
        load_model(f"hf:{base}", adapter=copy)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(BadInput, match=r"adapter_model\.safetensors' \(\d+ bytes.*half-written"):
        load_model(f"hf:{base}", adapter=copy)
    file.rename(copy / "adapter_model.bin")
    with pytest.raises(BadInput, match=r"adapter_model\.bin, a pickle"):
        load_model(f"hf:{base}", adapter=copy)
    (copy / "adapter_model.bin").unlink()
    with pytest.raises(BadInput, match=r"holds no adapter_model\.safetensors .*half-written"):
        load_model(f"hf:{base}", adapter=copy)


@pytest.mark.parametrize("name", ["base", "nothing"])
def test_a_folder_that_is_no_adapter(base: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match=r"(no adapter_config.json in it|no such folder).*; name a folder that peft"):
        load_model(f"hf:{base}", adapter=base if name == "base" else tmp_path / name)


def test_two_adapters_are_refused(base: Path, folder: Path) -> None:
    with pytest.raises(BadInput, match="both adapters: give one"):
        load_model(f"hf:{base}", weights=folder, adapter=folder)
    with pytest.raises(BadInput, match=r"is an adapter, and .* is another: name the base"):
        load_model(f"hf:{folder}", adapter=folder)

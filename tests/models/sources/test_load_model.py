"""Models by SPEC in one call: Python factories as before, and what is no SPEC."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import geomfeat as gf
from geomfeat.errors import BadInput
from geomfeat.models.sources import load_model
from tests.models.sources.tiny import adapter, gpt, with_tokenizer


def test_a_factory_with_and_without_weights(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("from torch import nn\n\n\ndef make():\n    return nn.Linear(3, 2)\n")
    trained = nn.Linear(3, 2)
    gf.save_weights(trained, tmp_path / "end.safetensors")
    spec = f"{tmp_path / 'net.py'}:make"
    assert isinstance(gf.load_model(spec), nn.Linear)
    found = gf.load_model(spec, weights=tmp_path / "end.safetensors")
    assert torch.equal(found.state_dict()["weight"], trained.weight)


@pytest.mark.parametrize("spec", ["resnet18", "net", ""])
def test_what_is_no_spec(spec: str) -> None:
    with pytest.raises(BadInput, match="must look like"):
        load_model(spec)


def test_a_module_in_place_of_a_spec() -> None:
    with pytest.raises(BadInput, match="model is a Linear: give a SPEC"):
        load_model(nn.Linear(1, 1))  # type: ignore[arg-type]


def test_an_empty_folder_name() -> None:
    with pytest.raises(BadInput, match="names nothing"):
        load_model("hf:")


def test_transformers_is_imported_only_where_it_is_needed() -> None:
    code = "import sys; from geomfeat.models.sources import load_model; load_model('geomfeat.models.mlp:mlp'); "
    code += "print('transformers' in sys.modules, 'peft' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert done.stdout.strip() == "False False", done.stderr


@pytest.mark.parametrize("package", ["transformers", "peft"])
def test_without_the_packages_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "adapter_config.json").write_text("{}")
    save_file({"a": torch.ones(1)}, tmp_path / "adapter_model.safetensors")
    adapter = tmp_path if package == "peft" else None
    spec = "geomfeat.models.mlp:mlp" if package == "peft" else f"hf:{tmp_path}"
    with pytest.raises(BadInput, match=rf"needs the package {package}.*pip install 'geomfeat\[models\]'"):
        load_model(spec, adapter=adapter)


def test_nothing_asks_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *words, **_: asked.append(words) or [])
    base = with_tokenizer(gpt(tmp_path / "base"))
    own = adapter(tmp_path / "own", load_model(f"hf:{base}"), seed=1)
    config = json.loads((own / "adapter_config.json").read_text())
    (own / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "meta/large"}))
    asked.clear()  # saving an adapter is not ours
    load_model(f"hf:{base}", adapter=own)
    (tmp_path / "a.txt").write_text("the cat sat\n")
    gf.load_data(f"text:{tmp_path / 'a.txt'}", model=f"hf:{base}")
    assert asked == []

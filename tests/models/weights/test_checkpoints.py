"""Factories by SPEC and weights from files: round trips, and every kind of file that does not fit."""

from __future__ import annotations

import copy
import sys
import textwrap

import pytest
import torch
from torch import nn

from geomfeat.errors import BadInput, CheckpointMismatch, OutOfMemory, WriteFailed
from geomfeat.models import build
from geomfeat.models.weights.checkpoints import load_factory, load_weights, read_weights, save_weights, weights_sha256

SOURCE = """
from dataclasses import dataclass
import torch

@dataclass
class Options:
    width: int = 3

def make_net():
    return torch.nn.Linear(Options().width, 2)

def not_a_net():
    return 3

def needs(k):
    return torch.nn.Linear(k, 2)

ready = torch.nn.Linear(2, 2)
number = 5
"""


class Tied(nn.Module):
    """Two names for one matrix."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x):
        return self.head(self.embed(x))


@pytest.fixture
def net_file(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(textwrap.dedent(SOURCE))
    return path


def same(a, b):
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def test_factories_from_a_package_and_from_a_file(net_file, monkeypatch):
    assert isinstance(load_factory("geomfeat.models.cnn:cnn")(), nn.Sequential)
    before = list(sys.path)
    assert load_factory(f"{net_file}:make_net")().weight.shape == (2, 3)
    monkeypatch.chdir(net_file.parent)
    assert load_factory("net:make_net")().weight.shape == (2, 3)
    assert sys.path == before
    sys.modules.pop("net")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("digits", "must look like"),
        (":f", "must look like"),
        ("geomfeat.models.mlp:", "must look like"),
        ("geomfeat.models.mlpp:mlp", "no module"),
        ("geomfeat.models.mlp:mpl", "near: mlp"),
        ("nowhere/net.py:make", "no such file"),
        ("FILE:ready", "wrap it"),
        ("FILE:number", "not a factory"),
    ],
)
def test_specs_that_name_no_factory(spec, words, net_file):
    with pytest.raises(BadInput, match=words):
        load_factory(spec.replace("FILE", str(net_file)))


@pytest.mark.parametrize(("name", "words"), [("not_a_net", "returned int"), ("needs", "without arguments")])
def test_factories_that_give_no_module(name, words, net_file):
    with pytest.raises(BadInput, match=words):
        load_factory(f"{net_file}:{name}")()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("import sys; sys.exit(0)", r"ended the program by sys.exit\(0\)"),
        ("raise SystemExit('no licence')", r"sys.exit\('no licence'\)"),
        ("return make()", "RecursionError"),
        ("raise KeyError('layer')", "KeyError: 'layer'"),
        ("raise TypeError('of its own')", "failed when it was called: TypeError: of its own"),
        ("raise OSError('two\\nlines')", "OSError: two lines$"),
    ],
)
@pytest.mark.parametrize("at_import", [False, True])
def test_code_that_fails_or_ends_the_program_is_refused(body, words, at_import, tmp_path):
    path = tmp_path / "odd.py"
    path.write_text(f"def make():\n    {body}\n" + "make()\n" * at_import)
    with pytest.raises(BadInput, match=words if not at_import else words.removeprefix("failed when it was called: ")):
        load_factory(f"{path}:make")()


def test_a_factory_that_does_not_fit_into_memory_says_so(tmp_path):
    path = tmp_path / "large.py"
    path.write_text("from torch import nn\n\ndef make():\n    return nn.Linear(2**30, 2**30)\n")
    with pytest.raises(OutOfMemory, match=r"large.py:make' does not fit into memory"):
        load_factory(f"{path}:make")()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.zeros(3, 4).to_sparse(), "sparse or quantised"),
        (torch.zeros(3, 4, device="meta"), "without values"),
    ],
)
def test_tensors_that_are_no_plain_numbers_are_refused(value, words, tmp_path):
    torch.save({"0.weight": value}, tmp_path / "odd.pt")
    with pytest.raises(BadInput, match=words):
        read_weights(tmp_path / "odd.pt")


def test_a_file_is_read_as_it_is_now(tmp_path, monkeypatch):
    """Stored bytecode counts as current if a file was changed within a second and has the same length."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "net.py"
    for size in (3, 5):
        path.write_text(f"from torch import nn\n\n\ndef net():\n    return nn.Linear({size}, 1)\n")
        assert load_factory(f"{path}:net")().in_features == size
    assert [file.name for file in tmp_path.iterdir()] == ["net.py"]


def test_a_file_that_fails_says_where(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("1 / 0\n")
    with pytest.raises(BadInput, match="ZeroDivisionError"):
        load_factory(f"{path}:make")
    path.write_text("import a_module_that_is_not_there\n")
    with pytest.raises(BadInput, match="a_module_that_is_not_there"):
        load_factory(f"{path}:make")


@pytest.mark.parametrize("name", ["mlp", "residual", "transformer", "lstm"])
def test_safetensors_round_trip(name, tmp_path):
    a, b = build(name, seed=0), build(name, seed=1)
    path = save_weights(a, tmp_path / "deep" / "w.safetensors")
    assert load_weights(b, path) is b
    assert same(a, b)
    assert [p.name for p in path.parent.iterdir()] == ["w.safetensors"]
    assert weights_sha256(path) == weights_sha256(save_weights(b, tmp_path / "again.safetensors"))


def test_shared_tensors_are_written_once_and_stay_shared(tmp_path):
    a, b = Tied(), Tied()
    path = save_weights(a, tmp_path / "w.safetensors")
    assert len(read_weights(path)) == 1
    load_weights(b, path)
    assert torch.equal(a.embed.weight, b.embed.weight)
    assert b.head.weight is b.embed.weight


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_pt_files_with_wrappers_and_prefixes(wrap, prefix, tmp_path):
    a, b = build("cnn", seed=0), build("cnn", seed=1)
    torch.save(wrap({prefix + k: v for k, v in a.state_dict().items()}), tmp_path / "w.pt")
    load_weights(b, tmp_path / "w.pt")
    assert same(a, b)


def test_both_prefixes_of_a_compiled_parallel_model(tmp_path):
    a, b = build("cnn", seed=0), build("cnn", seed=1)
    torch.save({"_orig_mod.module." + k: v for k, v in a.state_dict().items()}, tmp_path / "w.pth")
    load_weights(b, tmp_path / "w.pth")
    assert same(a, b)


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    torch.save(build("cnn"), tmp_path / "whole.pt")
    with pytest.raises(BadInput, match="more than tensors"):
        read_weights(tmp_path / "whole.pt")


def test_mismatches_are_listed_and_the_model_is_untouched(tmp_path):
    path = save_weights(build("mlp", hidden=(8,), seed=0), tmp_path / "w.safetensors")
    model = build("mlp", hidden=(8, 9), seed=1)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(CheckpointMismatch, match=r"2 missing: fc2.weight, fc2.bias") as caught:
        load_weights(model, path)
    assert "1 wrongly shaped: head.weight (10, 8) in the file, (10, 9) in the model" in str(caught.value)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_long_lists_are_counted(tmp_path):
    path = save_weights(build("mlp", hidden=(4,) * 20), tmp_path / "w.safetensors")
    with pytest.raises(CheckpointMismatch, match="38 unexpected") as caught:
        load_weights(build("mlp", hidden=(4,)), path)
    assert "and 30 more" in str(caught.value)


def test_not_strict_takes_what_fits(tmp_path):
    path = save_weights(build("mlp", hidden=(8,), seed=0), tmp_path / "w.safetensors")
    model = build("mlp", hidden=(8, 8), seed=1)
    load_weights(model, path, strict=False)
    assert torch.equal(model.fc1.weight, read_weights(path)["fc1.weight"])
    with pytest.raises(CheckpointMismatch):
        load_weights(nn.Conv1d(1, 1, 1), path, strict=False)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("keep", [0, 10, 2000])
def test_truncated_files_are_named(suffix, keep, tmp_path):
    path = tmp_path / f"w{suffix}"
    model = build("mlp", seed=0)
    save_weights(model, path) if suffix == ".safetensors" else torch.save(model.state_dict(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadInput, match="truncated or corrupt") as caught:
        load_weights(model, path)
    assert str(path) in str(caught.value)


def test_nan_names_the_tensor(tmp_path):
    model = build("mlp", seed=0)
    with torch.no_grad():
        model.fc2.weight[0, 0] = float("nan")
        model.fc2.weight[0, 1] = float("inf")
    path = save_weights(model, tmp_path / "w.safetensors")
    with pytest.raises(BadInput, match=r"'fc2.weight'.*2 NaN or infinite"):
        load_weights(build("mlp"), path)


def test_path_and_model_in_the_other_order_are_reported(tmp_path):
    model = build("mlp", seed=0)
    path = save_weights(model, tmp_path / "w.safetensors")
    for first in (path, str(path), model.state_dict()):
        with pytest.raises(BadInput, match=r"takes the model first: load_weights\(model, path\)"):
            load_weights(first, model)


def test_what_torch_says_of_a_file_comes_without_colours(tmp_path):
    torch.save(build("mlp", seed=0), tmp_path / "whole.pt")
    with pytest.raises(BadInput, match="cannot read weights") as caught:
        read_weights(tmp_path / "whole.pt")
    assert "\x1b" not in str(caught.value)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(BadInput, match="no such weights file"):
        read_weights(tmp_path / "none.pt")
    (tmp_path / "w.onnx").write_bytes(b"x")
    with pytest.raises(BadInput, match=r"\.safetensors"):
        read_weights(tmp_path / "w.onnx")
    with pytest.raises(BadInput, match=r"saved as \.safetensors"):
        save_weights(build("mlp"), tmp_path / "w.pt")
    torch.save(torch.zeros(3), tmp_path / "t.pt")
    with pytest.raises(BadInput, match="not a state dict"):
        read_weights(tmp_path / "t.pt")
    torch.save({"epoch": 3}, tmp_path / "e.pt")
    with pytest.raises(BadInput, match="no tensors"):
        read_weights(tmp_path / "e.pt")


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = save_weights(build("mlp", seed=0), tmp_path / "w.safetensors")
    before = weights_sha256(path)
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(WriteFailed, match="cannot be written: disk full"):
        save_weights(build("mlp", seed=1), path)
    assert weights_sha256(path) == before
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_bfloat16_files_load_into_float32(tmp_path):
    a, b = build("mlp", seed=0), build("mlp", seed=1)
    path = save_weights(copy.deepcopy(a).bfloat16(), tmp_path / "w.safetensors")
    load_weights(b, path)
    assert b.fc1.weight.dtype == torch.float32
    assert torch.equal(b.fc1.weight, a.fc1.weight.bfloat16().float())


def test_lazy_parameters_take_the_shapes_of_the_file(tmp_path: Path) -> None:
    def made(first: nn.Module) -> nn.Sequential:
        return nn.Sequential(first, nn.ReLU(), nn.Linear(4, 2))

    net = made(nn.Linear(3, 4))
    save_weights(net, tmp_path / "w.safetensors")
    lazy = load_weights(made(nn.LazyLinear(4)), tmp_path / "w.safetensors")
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(lazy(x), net(x))
    with pytest.raises(CheckpointMismatch, match=r"2\.weight"):
        load_weights(nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.Linear(5, 2)), tmp_path / "w.safetensors")

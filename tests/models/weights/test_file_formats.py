"""Weights as other programs save them: what the file is called, what it holds, and what stands before the names."""

from __future__ import annotations

import argparse
import copy
import json
import logging
import pickle
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from geomfeat.errors import BadInput, CheckpointMismatch, OutputExists, WriteFailed
from geomfeat.models.weights.checkpoints import load_weights, save_weights, weights_sha256
from geomfeat.models.weights.file_formats import read_weights

State = dict[str, Tensor]


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            OrderedDict(features=nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)), flat=nn.Flatten(),
                        head=nn.Linear(12, 2))
        )  # fmt: skip
        net.features[1].running_mean += torch.randn(3)  # type: ignore[index,operator]
        net.features[1].num_batches_tracked += 7  # type: ignore[index,operator]
    return net


def state_of(seed: int = 0) -> State:
    return dict(network(seed).state_dict())


def before(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def assert_loaded(path: Path, seed: int = 0, into: nn.Module | None = None) -> None:
    fresh = network(5) if into is None else into
    load_weights(fresh, path)
    want = state_of(seed)
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, want[name.replace("module.", "").replace("_orig_mod.", "")]), name


LAYOUTS: dict[str, Any] = {
    "plain": lambda s: s,
    "lightning": lambda s: {
        "epoch": 3, "global_step": 9, "pytorch-lightning_version": "2.5.0", "state_dict": before("model.", s),
        "loops": {"fit_loop": {}}, "callbacks": {}, "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}}],
        "lr_schedulers": [], "hparams_name": "kwargs", "hyper_parameters": {"lr": 0.1},
    },
    "lightning, own attribute": lambda s: {"state_dict": before("student_net.", s), "epoch": 1},
    "lightning, with a loss": lambda s: {
        "state_dict": {**before("model.", s), "criterion.weight": torch.ones(2), "ema.decay": torch.ones(())}
    },
    "torchvision": lambda s: {
        "model": s, "optimizer": {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]},
        "lr_scheduler": {"last_epoch": 3}, "epoch": 3, "args": argparse.Namespace(lr=0.1, model="net"),
        "best": np.float64(0.9), "count": np.int64(3),
    },
    "torchvision's average alone": lambda s: {
        "model_ema": {**before("module.", s), "n_averaged": torch.tensor(4)}, "epoch": 3
    },
    "model and average": lambda s: {"model_ema": before("module.", state_of(3)), "model": s, "epoch": 3},
    "timm": lambda s: {"epoch": 2, "arch": "net", "state_dict": s, "state_dict_ema": state_of(3), "version": 2},
    "two levels": lambda s: {"model": {"state_dict": s}},
    "deepspeed": lambda s: {"module": s, "optimizer": None, "global_steps": 10},
    "a loss beside": lambda s: {"model_state_dict": s, "loss": torch.tensor(0.3), "epoch": 4},
    "another name": lambda s: {"generator": s, "step": 5},
    "ordered": lambda s: OrderedDict(s),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["w.pt", "w.pth", "epoch=3-step=9.ckpt", "pytorch_model.bin", "model_best.pth.tar"])
def test_layouts_and_names_of_files(tmp_path: Path, layout: str, name: str) -> None:
    torch.save(LAYOUTS[layout](state_of()), tmp_path / name)
    assert_loaded(tmp_path / name)


PREFIXES = [
    "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "model.module.", "module.model.",
    "_orig_mod.model.module.", "net.", "backbone.encoder.", "_fsdp_wrapped_module.",
]  # fmt: skip


@pytest.mark.parametrize("prefix", PREFIXES)
def test_beginnings_in_any_order(tmp_path: Path, prefix: str) -> None:
    save_file({k: v.contiguous() for k, v in before(prefix, state_of()).items()}, tmp_path / "w.safetensors")
    assert_loaded(tmp_path / "w.safetensors")


def test_wrappers_among_the_names(tmp_path: Path) -> None:
    state = {name.replace("features.", "features.module._orig_mod."): v for name, v in state_of().items()}
    torch.save(state, tmp_path / "w.pt")
    assert_loaded(tmp_path / "w.pt")


@pytest.mark.parametrize("wrap", [nn.DataParallel, AveragedModel])
def test_a_wrapped_model_takes_plain_weights_and_its_own(tmp_path: Path, wrap: Any) -> None:
    torch.save(state_of(), tmp_path / "plain.pt")
    torch.save(wrap(network()).state_dict(), tmp_path / "wrapped.pt")
    for name in ("plain.pt", "wrapped.pt"):
        model = wrap(network(5))
        load_weights(model, tmp_path / name)
        assert torch.equal(model.module.head.weight, state_of()["head.weight"])
    assert_loaded(tmp_path / "wrapped.pt")


def test_a_module_that_holds_the_network_takes_plain_weights(tmp_path: Path) -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network(5)

    torch.save(state_of(), tmp_path / "plain.pt")
    model = Holder()
    load_weights(model, tmp_path / "plain.pt")
    assert torch.equal(model.net.head.weight, state_of()["head.weight"])  # type: ignore[union-attr]


def test_a_network_whose_own_names_look_like_wrappers_keeps_them(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            self.module, self.model, self.weight = network(seed), network(seed + 1), nn.Parameter(torch.ones(2))

    torch.save(before("module.", dict(Odd(0).state_dict())), tmp_path / "w.pt")
    model = Odd(5)
    load_weights(model, tmp_path / "w.pt")
    assert all(torch.equal(v, Odd(0).state_dict()[k]) for k, v in model.state_dict().items())


def test_the_average_of_an_averaged_model_is_loaded(tmp_path: Path) -> None:
    net = network()
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1)
    average.update_parameters(net)
    torch.save(average.state_dict(), tmp_path / "w.pt")
    fresh = network(5)
    load_weights(fresh, tmp_path / "w.pt")
    assert torch.equal(fresh.head.weight, average.module.head.weight)  # type: ignore[union-attr]


@pytest.mark.parametrize("gone", ["num_batches_tracked", "features.1.num_batches_tracked"])
def test_a_counter_may_be_absent_and_keeps_the_models_value(tmp_path: Path, gone: str) -> None:
    torch.save({k: v for k, v in state_of().items() if not k.endswith(gone)}, tmp_path / "w.pt")
    fresh = network(5)
    load_weights(fresh, tmp_path / "w.pt")
    assert torch.equal(fresh.features[1].running_mean, state_of()["features.1.running_mean"])  # type: ignore[index]
    assert int(fresh.features[1].num_batches_tracked) == 7  # type: ignore[index]


def test_statistics_that_are_absent_are_still_missing(tmp_path: Path) -> None:
    torch.save({k: v for k, v in state_of().items() if "running" not in k}, tmp_path / "w.pt")
    with pytest.raises(CheckpointMismatch, match=r"2 missing: features\.1\.running_mean, features\.1\.running_var"):
        load_weights(network(5), tmp_path / "w.pt")


def test_buffers_that_the_model_does_not_save_may_be_there(tmp_path: Path) -> None:
    net = network(5)
    net.register_buffer("position_ids", torch.arange(3), persistent=False)
    torch.save({**state_of(), "position_ids": torch.arange(3)}, tmp_path / "w.pt")
    assert_loaded(tmp_path / "w.pt", into=net)


def test_old_weight_norm_fits_the_parametrization(tmp_path: Path) -> None:
    new = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))
    state = new.state_dict()
    old = {"0.bias": state["0.bias"], "0.weight_g": state["0.parametrizations.weight.original0"] * 2,
           "0.weight_v": state["0.parametrizations.weight.original1"]}  # fmt: skip
    torch.save(old, tmp_path / "w.pt")
    want = new[0].weight.detach() * 2  # type: ignore[operator]
    load_weights(new, tmp_path / "w.pt")
    assert torch.allclose(new[0].weight, want)  # type: ignore[arg-type]


def shards(folder: Path, kind: str, state: State) -> Path:
    """The state in two files with their index, as transformers writes it."""
    stem, suffix = ("model", "safetensors") if kind == "safetensors" else ("pytorch_model", "bin")
    names = sorted(state)
    parts = {f"{stem}-0000{i + 1}-of-00002.{suffix}": names[i::2] for i in range(2)}
    for file, held in parts.items():
        held_state = {name: state[name].contiguous() for name in held}
        if kind == "safetensors":
            save_file(held_state, folder / file, metadata={"format": "pt"})
        else:
            torch.save(held_state, folder / file)
    index = {"metadata": {"total_size": 1}, "weight_map": {name: file for file, held in parts.items() for name in held}}
    path = folder / f"{stem}.{suffix}.index.json"
    path.write_text(json.dumps(index))
    return path


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_weights_in_several_files(tmp_path: Path, kind: str) -> None:
    index = shards(tmp_path, kind, state_of())
    (tmp_path / "config.json").write_text("{}")
    torch.save({"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}, tmp_path / "optimizer.pt")
    assert_loaded(index)
    assert_loaded(tmp_path)
    assert weights_sha256(tmp_path) == weights_sha256(index)
    first = weights_sha256(tmp_path)
    part = next(tmp_path.glob("*-00002-of-*"))
    part.write_bytes(part.read_bytes() + b" ")
    assert weights_sha256(tmp_path) != first


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "my weights.ckpt"])
def test_a_folder_with_one_file_of_weights(tmp_path: Path, name: str) -> None:
    state = {k: v.contiguous() for k, v in state_of().items()}
    save_file(state, tmp_path / name) if name.endswith("safetensors") else torch.save(state, tmp_path / name)
    assert_loaded(tmp_path)


def test_a_folder_prefers_safetensors_as_transformers_does(tmp_path: Path) -> None:
    save_file({k: v.contiguous() for k, v in state_of().items()}, tmp_path / "model.safetensors")
    torch.save(state_of(3), tmp_path / "pytorch_model.bin")
    assert_loaded(tmp_path)


def test_folders_and_indices_that_cannot_be_read_are_reported(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"is a folder with none of model\.safetensors.*weights there: none"):
        read_weights(tmp_path)
    torch.save(state_of(), tmp_path / "a.pt")
    torch.save(state_of(), tmp_path / "b.pt")
    with pytest.raises(BadInput, match=r"name the file \(weights there: a\.pt, b\.pt\)"):
        read_weights(tmp_path)
    index = shards(tmp_path, "safetensors", state_of())
    whole = json.loads(index.read_text())
    for content, message in [
        ("", "is not an index of weights"), ("[" * 100_000, "is not an index of weights"), ("{}", "is not an index"),
        ('{"weight_map": 3}', "is not an index"), ('{"weight_map": {}}', "lists no weights"),
        ('{"weight_map": {"a": "../a.pt"}}', "is not a weights file in the same folder"),
        ('{"weight_map": {"a": "index.json"}}', "is not a weights file in the same folder"),
        ('{"weight_map": {"a": "none.bin"}}', "which is missing"),
        (json.dumps({"weight_map": {**whole["weight_map"], "more": "a.pt"}}), "lists 'more' in a.pt"),
    ]:  # fmt: skip
        index.write_text(content)
        with pytest.raises(BadInput, match=message.replace(".", r"\.")):
            read_weights(index)


def test_what_was_taken_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="geomfeat")
    torch.save(LAYOUTS["model and average"](state_of()), tmp_path / "two.pt")
    torch.save(LAYOUTS["torchvision's average alone"](state_of()), tmp_path / "one.pt")
    torch.save(LAYOUTS["lightning, with a loss"](state_of()), tmp_path / "loss.ckpt")
    for name in ("two.pt", "one.pt", "loss.ckpt"):
        load_weights(network(5), tmp_path / name)
    assert "'model' is taken; the file also holds model_ema" in caplog.text
    assert "'model_ema' is taken" in caplog.text
    assert "'model.' is taken, and criterion.weight, ema.decay left out" in caplog.text


def test_a_trained_network_is_taken_before_its_average_among_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(
        {"state_dict": {**before("ema_model.", state_of(3)), **before("model.", state_of())}}, tmp_path / "w.ckpt"
    )
    assert_loaded(tmp_path / "w.ckpt")
    assert "'model.' is taken; ema_model. fit too" in caplog.text


def test_two_networks_that_fit_alike_are_not_guessed(tmp_path: Path) -> None:
    torch.save({**before("left.", state_of(3)), **before("right.", state_of())}, tmp_path / "w.pt")
    with pytest.raises(CheckpointMismatch, match=r"several networks that fit the model: left\., right\."):
        load_weights(network(5), tmp_path / "w.pt")
    torch.save({"left": state_of(3), "right": state_of()}, tmp_path / "w.pt")
    with pytest.raises(BadInput, match="several sets: left, right"):
        load_weights(network(5), tmp_path / "w.pt")


def test_names_that_do_not_fit_come_with_near_ones(tmp_path: Path) -> None:
    state = {name.replace("head", "heads"): value for name, value in state_of().items()}
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(CheckpointMismatch) as caught:
        load_weights(network(5), tmp_path / "w.pt")
    message = str(caught.value)
    assert "2 missing: head.weight, head.bias; 2 unexpected: heads.weight, heads.bias" in message
    assert "near 'head.weight' in the file: heads.weight" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}, "an optimizer's state, without weights"),
        ([torch.ones(2)], "holds a list, not a state dict"),
        ({"epoch": 3}, "no tensors by name: it holds epoch"),
        ({}, "no tensors by name"),
        ({"optimizer": {"state": {}}}, "no tensors by name: it holds optimizer"),
    ],
)
def test_files_without_weights_say_what_they_hold(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(BadInput, match=message):
        read_weights(tmp_path / "w.pt")


class Runs:
    """A pickle that runs code."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("ran",)


def test_a_pickle_beside_the_weights_does_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": state_of(), "callback": Runs()}, tmp_path / "w.ckpt")
    with pytest.raises(BadInput, match="holds more than tensors"):
        read_weights(tmp_path / "w.ckpt")
    assert capsys.readouterr().out == ""


def test_complex_weights_do_not_lose_their_imaginary_part(tmp_path: Path) -> None:
    torch.save({**state_of(), "head.bias": torch.ones(2, dtype=torch.complex64)}, tmp_path / "w.pt")
    with pytest.raises(CheckpointMismatch, match=r"head\.bias complex \(2,\) in the file, \(2,\) in the model"):
        load_weights(network(5), tmp_path / "w.pt")


def test_a_model_on_the_meta_device_is_reported(tmp_path: Path) -> None:
    torch.save(state_of(), tmp_path / "w.pt")
    model = copy.deepcopy(network(5)).to("meta")
    with pytest.raises(BadInput, match=r"is on the meta device, without memory: call model\.to_empty"):
        load_weights(model, tmp_path / "w.pt")


def test_weights_of_the_user_are_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"mine": torch.ones(2)}, path)
    whole = path.read_bytes()
    with pytest.raises(OutputExists, match=r"model\.safetensors was not written by geomfeat"):
        save_weights(network(), path)
    assert path.read_bytes() == whole
    with pytest.raises(BadInput, match="names nothing"):
        save_weights(network(), "")


def test_saved_weights_are_the_same_bytes_and_read_by_others(tmp_path: Path) -> None:
    from safetensors import safe_open

    sums = {weights_sha256(save_weights(network(), tmp_path / f"{i}.safetensors")) for i in range(5)}
    assert len(sums) == 1
    with safe_open(tmp_path / "0.safetensors", framework="pt") as file:  # type: ignore[no-untyped-call]
        assert file.metadata()["format"] == "pt"
        assert torch.equal(file.get_tensor("head.weight"), state_of()["head.weight"])
    save_weights(network(1), tmp_path / "0.safetensors")
    assert_loaded(tmp_path / "0.safetensors", seed=1)


def test_a_full_disk_keeps_the_old_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_weights(network(), tmp_path / "w.safetensors")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(WriteFailed, match=r"w\.safetensors cannot be written: No space left"):
        save_weights(network(1), path)
    assert list(tmp_path.iterdir()) == [path]
    assert_loaded(path)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"state": {"model": s}},
        lambda s: {"state": s, "step": 3},
        lambda s: {"checkpoint": {"run": {"stage": {"inner": {"weights": s}}}}},
        lambda s: {"generator": before("module.", s), "discriminator": {"a.weight": torch.ones(2)}},
        lambda s: {"nets": {"critic": {"b.weight": torch.ones(2)}, "actor": s}},
        lambda s: {"train_state": {"optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}, "params": s}},
    ],
    ids=["state.model", "state", "deep", "fits one", "nested fits one", "beside an optimizer"],
)  # fmt: skip
def test_the_set_that_fits_the_model_is_found_at_any_depth(tmp_path: Path, wrap: Any) -> None:
    torch.save(wrap(state_of(1)), tmp_path / "w.pt")
    assert_loaded(tmp_path / "w.pt", 1)


def test_an_optimizer_state_is_still_no_weights(tmp_path: Path) -> None:
    optimizer = torch.optim.Adam(network().parameters())
    torch.save(optimizer.state_dict(), tmp_path / "w.pt")
    with pytest.raises(BadInput, match="optimizer's state, without weights"):
        read_weights(tmp_path / "w.pt", state_of().keys())


def _numpy_state(path: Path) -> None:
    torch.save({name: value.numpy() for name, value in state_of().items()}, path)


def _numpy_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({name: value.numpy() for name, value in state_of().items()}))


def _npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, **{name: value.numpy() for name, value in state_of().items()})


@pytest.mark.parametrize(
    ("write", "what"),
    [
        (_numpy_state, "numpy arrays in a pickle"),
        (_numpy_pickle, "numpy arrays in a pickle"),
        (_npz, r"numpy arrays \(\.npz\)"),
        (lambda path: torch.save(network(), path), r"a whole pickled module \(of torch\.nn\..*weights_only=False"),
        (lambda path: torch.save({"model": Own()}, path), r"a whole pickled module \(of tests\.models\.\S+\.Own"),
        (lambda path: torch.save(network(), path, _use_new_zipfile_serialization=False), "a whole pickled module"),
        (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "a Git LFS pointer"),
        (lambda path: path.write_bytes(b"<!DOCTYPE html><html></html>"), "a web page"),
    ],
)  # fmt: skip
def test_other_files_are_called_what_they_are(tmp_path: Path, write: Any, what: str) -> None:
    write(tmp_path / "w.pt")
    with pytest.raises(BadInput, match=f"w.pt': it is {what}") as caught:
        read_weights(tmp_path / "w.pt")
    assert "truncated" not in str(caught.value)


class Own(nn.Module):
    """A module of the user's."""


def test_a_torchscript_program_is_called_so(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "w.pt")
    with pytest.raises(BadInput, match="a TorchScript program"):
        read_weights(tmp_path / "w.pt")


def test_a_folder_of_checkpoints_names_them(tmp_path: Path) -> None:
    for step in (900, 1000):
        (tmp_path / f"checkpoint-{step}").mkdir()
        save_file(state_of(), tmp_path / f"checkpoint-{step}" / "model.safetensors")
    (tmp_path / "logs").mkdir()
    with pytest.raises(BadInput, match=r"its folders checkpoint-900, checkpoint-1000 do.*e\.g\. '.*checkpoint-1000'"):
        read_weights(tmp_path)
    assert_loaded(tmp_path / "checkpoint-1000")

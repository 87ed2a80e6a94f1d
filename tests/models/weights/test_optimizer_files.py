"""Optimizers from files, as trainers save them; and files that hold none, which are named with what they hold."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from geomfeat.errors import BadInput
from geomfeat.models.weights.optimizer_files import read_optimizer


def saved_state() -> dict[str, Any]:
    net = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


@pytest.mark.parametrize(
    "around",
    [
        lambda state: state,
        lambda state: {"model": {"w": torch.ones(2)}, "optimizer": state, "epoch": 3},
        lambda state: {"state_dict": {}, "optimizer_states": [state], "lr_schedulers": []},
        lambda state: {"optimizer_state_dict": state},
        lambda state: {"optim": state, "discriminator": state},
        lambda state: {"net": {}, "opt_g": state, "args": argparse.Namespace(lr=0.1)},
    ],
)
def test_a_state_is_found_where_trainers_put_it(tmp_path: Path, around: Callable[[Any], Any]) -> None:
    state = saved_state()
    torch.save(around(state), tmp_path / "last.ckpt")
    found = read_optimizer(tmp_path / "last.ckpt")
    assert found["param_groups"] == state["param_groups"]
    torch.testing.assert_close(found["state"][0]["exp_avg_sq"], state["state"][0]["exp_avg_sq"])


def test_rates_are_read_from_json(tmp_path: Path) -> None:
    (tmp_path / "rates.json").write_text('{"*": 0.1, "head.*": 1e-3}')
    assert read_optimizer(tmp_path / "rates.json") == {"*": 0.1, "head.*": 1e-3}


class Runs:
    """A pickle that would run code."""

    def __reduce__(self) -> Any:
        return (Path.write_text, (Path("ran.txt"), "ran"))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("weights.pt", {"fc.weight": torch.ones(2), "fc.bias": torch.ones(1)}, "no optimizer, only fc.weight, fc.bias"),
        ("last.ckpt", {"state_dict": {"w": torch.ones(2)}, "optimizer": None, "epoch": 3},
         "no optimizer, only state_dict, optimizer, epoch"),
        ("list.pt", [torch.ones(2)], "no optimizer, a list"),
        ("empty.ckpt", {"optimizer_states": []}, "no optimizer, only optimizer_states"),
        ("gan.ckpt", {"optimizer_states": [{"param_groups": []}] * 2},
         r"several optimizers, optimizer_states\[0\], optimizer_states\[1\]"),
        ("code.pt", {"optimizer": Runs()}, "cannot read optimizer .*would run code"),
        ("rates.json", "{", "is not JSON"),
        ("rates.json", json.dumps([0.1]), "holds a JSON list"),
        ("rates.json", "{}", "holds a JSON empty dict"),
        ("rates.json", json.dumps({"param_groups": 1}), "holds a JSON dict, not rates"),
        ("damaged.pt", "no archive", "cannot read optimizer .*truncated, corrupt or of another kind"),
    ],
)  # fmt: skip
def test_what_holds_no_optimizer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: Any, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if isinstance(content, str):
        Path(name).write_text(content)
    else:
        torch.save(content, name)
    with pytest.raises(BadInput, match=words):
        read_optimizer(name)
    assert not Path("ran.txt").exists()


def test_a_file_that_is_not_there_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        read_optimizer(tmp_path / "absent.pt")
    with pytest.raises(BadInput, match=r"is a folder: name the file in it, often optimizer\.pt"):
        read_optimizer(tmp_path)

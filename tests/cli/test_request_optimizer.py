"""`geomfeat analyze --optimizer`: optimizers from files, and what cannot be that of this training, in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from torch import nn

from geomfeat.cli._request import samples
from geomfeat.data._load_data import load_data
from geomfeat.errors import BadInput
from geomfeat.location import LocateOptions, locate
from geomfeat.study import Study
from geomfeat.tangent.optimizer_rates import optimizer_rates
from tests.cli.conftest import PROBES, N
from tests.cli.test_analyze import assert_refused
from tests.study.small import digits, make, model_at

Run = Callable[..., Result]
PLAIN = "plain: not known"


def adam(model: nn.Module, rate: float = 0.01, steps: int = 2) -> torch.optim.Adam:
    """Adam of a model, with the state of so many steps."""
    optimizer, (x, y) = torch.optim.Adam(model.parameters(), lr=rate), digits(N)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return optimizer


def located(name: str = "out") -> tuple[str, float]:
    where = Study.load(name).location
    assert where is not None
    return where.metric, where.richness


def test_a_location_is_in_the_coordinates_of_the_optimizer_in_a_file(files: Path, analyze: Run) -> None:
    optimizer = adam(make())
    torch.save({"model": {}, "optimizer": optimizer.state_dict()}, "last.ckpt")
    optimizer_rates(optimizer.state_dict(), model_at(2)).save("own.safetensors")
    Path("rates.json").write_text(json.dumps({"*": 1.0, "5.*": 0.01}))
    for file, metric, given in (
        ("last.ckpt", "Adam state", optimizer.state_dict()),
        ("own.safetensors", "Adam state", optimizer.state_dict()),
        ("rates.json", "given rates", {"*": 1.0, "5.*": 0.01}),
    ):
        result = analyze("--optimizer", file, out=file.replace(".", "_"))
        assert result.exit_code == 0, result.stderr
        x = samples(load_data("npz:digits.npz"), None, 0).inputs
        want = locate(
            model_at(2),
            x,
            initial=model_at(0),
            optimizer=given,
            progress=False,
            options=LocateOptions(n_probes=PROBES, n_bootstrap=2),
        )
        assert located(file.replace(".", "_")) == (metric, pytest.approx(want.richness, rel=1e-9))
    assert analyze().exit_code == 0
    assert located()[0] == PLAIN


def test_another_optimizer_is_another_request(files: Path, analyze: Run) -> None:
    Path("rates.json").write_text(json.dumps({"*": 1.0}))
    assert analyze("--optimizer", "rates.json").exit_code == 0
    assert "results exist" in analyze("--optimizer", "rates.json").stdout
    assert "first optimizer:" in analyze().stderr
    Path("rates.json").write_text(json.dumps({"*": 1.0, "5.*": 2.0}))
    assert "first optimizer:" in analyze("--optimizer", "rates.json").stderr


def test_without_initial_weights_what_the_optimizer_moves_was_trained(files: Path, analyze: Run) -> None:
    Path("rates.json").write_text(json.dumps({"3.*": 1.0, "5.*": 1.0}))
    assert analyze("--optimizer", "rates.json", initial=False).exit_code == 0
    where = Study.load("out").location
    assert where is not None
    assert where.tangent == "334 of 1,374 parameters"
    assert any("those that the optimizer moves" in flag for flag in where.flags)


def without_steps() -> dict[str, Any]:
    state = adam(make()).state_dict()
    for own in state["state"].values():
        own["step"] = torch.tensor(0.0)
    return state


def of_another() -> dict[str, Any]:
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Linear(16, 9), nn.Linear(9, 10))
    return adam(other).state_dict()


REFUSED: list[tuple[str, Any, tuple[str, ...]]] = [
    ("absent.pt", None, ("--optimizer 'absent.pt': no such file",)),
    ("weights.pt", {"1.weight": torch.ones(2)}, ("'weights.pt' holds no optimizer, only 1.weight",)),
    ("last.ckpt", {"state_dict": {}, "epoch": 3}, ("'last.ckpt' holds no optimizer, only state_dict, epoch",)),
    ("other.pt", of_another, ("'other.pt'", "(9, 16) where parameter '3.weight' of the model is (12, 16)")),
    ("start.pt", without_steps, ("'start.pt'", "'1.weight' has made no step")),
    ("fresh.pt", lambda: torch.optim.Adam(make().parameters()).state_dict(), ("its state has made no step",)),
    ("still.pt", lambda: adam(make(), rate=0.0).state_dict(), ("'still.pt'", "all rates are 0")),
    ("rates.json", {"*": -0.1}, ("'rates.json'", "rate of '*' is -0.1")),
    ("rates.json", {"*": 0.0}, ("'rates.json'", "all rates are 0")),
    ("rates.json", {"fc.*": 0.1}, ("'rates.json'", "'fc.*' matches no parameter", "1.weight")),
    ("rates.json", {"*": 0.1, "3.weight": 0}, ("parameter '3.weight' moved, but has a rate of 0",)),
    ("rates.json", {"3.*": 0.1}, ("parameter '1.weight' moved, but has no rate",)),
]


@pytest.mark.parametrize(("name", "content", "words"), REFUSED)
def test_what_cannot_be_the_optimizer_is_refused(
    files: Path, analyze: Run, name: str, content: Any, words: tuple[str, ...]
) -> None:
    content = content() if callable(content) else content
    if name.endswith(".json"):
        Path(name).write_text(json.dumps(content))
    elif content is not None:
        torch.save(content, name)
    assert_refused(analyze("--optimizer", name), *words)
    x, _ = digits(N)
    for given in [name] if content is None or "holds no" in words[0] else [name, content]:
        with pytest.raises(BadInput) as caught:
            locate(model_at(2), x, initial=model_at(0), optimizer=given, progress=False)
        named = [word.removeprefix("--") for word in words if given == name or name not in word]
        assert all(word in str(caught.value) for word in named)


def test_a_mask_of_parameters_and_the_optimizer_must_agree(files: Path) -> None:
    x, _ = digits(N)
    with pytest.raises(BadInput, match=r"params= names '3.weight', which has no rate in the optimizer"):
        locate(model_at(2), x, initial=model_at(0), params=["3.*", "5.*"], optimizer={"5.*": 0.1}, progress=False)

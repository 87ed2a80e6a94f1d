"""The schema of a sweep: what is accepted, and how mistakes are reported."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from geomfeat.comparison.sweeps.config import Range, SweepConfig, parse_config, read_config
from geomfeat.errors import BadInput

CONFIGS = sorted((Path(__file__).parents[3] / "tutorials" / "configs").glob("*.yaml"))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"widht": 3}, "widht: no such key; near: width"),
        ({"train": {"max_step": 3}}, "train.max_step: no such key; near: max_steps"),
        ({"measure": {"location": {"n_prob": 3}}}, "n_prob: no such key; near: n_probes"),
        ({"sigma": {"low": 1, "high": 2, "cuont": 3}}, "sigma.cuont: no such key; near: count"),
        ({"sigma": []}, "sigma: List should have at least 1 item"),
        ({"sigma": -1}, "sigma: Input should be greater than 0, got -1"),
        ({"eta": {"low": 2, "high": 1}}, "eta: low=2 must be below high=1"),
        ({"eta": {"low": -2, "high": 1}}, "eta: low=-2 must be positive on a log scale"),
        ({"architecture": "mpl"}, "architecture: not one of mlp, .*near: mlp, got 'mpl'"),
        ({"optimizer": ["sgd", "adamw"]}, "optimizer: not one of sgd, adam; near: adam"),
        ({"gamma": 1, "r": 0.5}, "gamma and r all set the output scale: give one of them"),
        ({"parameterization": "mup", "alpha": 2}, "mup sets gamma.*give gamma0 in place of alpha"),
        ({"train": {"target_loss": 1.5}}, "train.target_loss: Input should be less than 1, got 1.5"),
        ({"sigma": math.inf}, "sigma: Input should be a finite number"),
        ({"widht": 3, "eta": 0}, "widht.*eta|eta.*widht"),
    ],
)  # fmt: skip
def test_mistakes_are_reported_by_name_with_the_nearest_valid_one(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        parse_config(raw)


def test_a_config_is_short_and_its_defaults_are_those_documented() -> None:
    config = parse_config({"sigma": [0.5, 2]})
    assert (config.data, config.architecture, config.eta, config.seeds, config.design) == (
        "digits",
        "mlp",
        None,
        3,
        "grid",
    )
    assert parse_config(config) is config
    assert SweepConfig.model_validate(config.model_dump(mode="json")) == config


def test_numbers_that_yaml_reads_as_text_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text("eta: [1e-3, 1.0e-2]\n")
    assert read_config(tmp_path / "sweep.yaml").eta == [1e-3, 1e-2]


def test_files_that_cannot_be_read_are_reported(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such sweep file"):
        read_config(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("sigma: [1, 2")
    with pytest.raises(BadInput, match=r"bad\.yaml is not valid YAML"):
        read_config(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(BadInput, match="must be a mapping of keys to values, got list"):
        read_config(tmp_path / "list.yaml")


def test_ranges_are_even_on_their_scale() -> None:
    assert Range(low=0.25, high=4).at(0.5) == 1
    assert Range(low=1, high=3, scale="linear").at(0.25) == 1.5
    assert (Range(low=0.1, high=0.3).at(0.0), Range(low=0.1, high=0.3).at(1.0)) == (0.1, 0.3)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configs_of_the_tutorials_can_be_read(path: Path) -> None:
    config = read_config(path)
    varied = [name for name in ("sigma", "alpha", "rank") if isinstance(getattr(config, name), list | Range)]
    assert varied, "something is varied"

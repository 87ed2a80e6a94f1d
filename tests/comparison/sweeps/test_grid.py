"""From a config to its trainings: counts, order, draws, addresses, networks, and grids that cannot be trained."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from geomfeat.comparison.sweeps.config import parse_config
from geomfeat.comparison.sweeps.grid import SIZES, RunConfig, _dataset, dataset_of, network_of, runs_of
from geomfeat.errors import BadInput
from geomfeat.models.zoo import ARCHITECTURES
from tests.comparison.sweeps_on_disk import tiny


def runs(**changes: Any) -> tuple[RunConfig, ...]:
    return runs_of(parse_config(tiny(**changes)))


def test_a_grid_is_the_product_of_its_axes_and_seeds() -> None:
    found = runs(sigma=[0.5, 2], eta={"low": 0.1, "high": 1, "count": 3}, depth=[1, 2], seeds=[4, 7])
    cells = [(r.depth, r.sigma, round(r.eta or 0, 6), r.seed) for r in found]
    assert cells == list(itertools.product([1, 2], [0.5, 2], [0.1, 0.316228, 1], [4, 7]))
    assert len({r.address("v") for r in found}) == len(found)


def test_an_address_is_that_of_config_and_version_alone() -> None:
    (run,) = runs(seeds=1)
    again = RunConfig.model_validate_json(run.canonical())
    assert again == run
    assert again.address("v") == run.address("v") != run.address("w")
    assert run.address("v") not in {r.address("v") for r in runs(seeds=1, train={"momentum": 0.5})}


def test_a_larger_sweep_keeps_the_addresses_of_a_smaller_one() -> None:
    small, large = runs(sigma=[1.0]), runs(sigma=[1.0, 2.0], seeds=3)
    assert {r.address("v") for r in small} < {r.address("v") for r in large}


def test_random_designs_draw_by_scale_and_more_draws_change_none() -> None:
    design = {"sigma": {"low": 0.01, "high": 100}, "eta": [0.1, 0.2, None], "width": 8}
    found = runs(**design, seeds=1, design={"random": 400, "seed": 3})
    assert stats.kstest(np.log10([r.sigma for r in found]), stats.uniform(-2, 4).cdf).pvalue > 1e-3
    counts = [sum(r.eta == eta for r in found) for eta in (0.1, 0.2, None)]
    assert stats.chisquare(counts).pvalue > 1e-3
    assert runs(**design, seeds=1, design={"random": 50, "seed": 3}) == found[:50]
    assert runs(**design, seeds=1, design={"random": 50, "seed": 4}) != found[:50]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sigma": [1, 1.0]}, "sigma=.*holds a value twice"),
        ({"seeds": [1, 1]}, "seeds=.*holds one twice"),
        ({"sigma": {"low": 1, "high": 2}}, "sigma: a range in a grid needs count"),
        ({"design": {"random": 3}}, "nothing to draw"),
        ({"architecture": "residual", "parameterization": "ntk"}, "residual has no option 'parameterization'"),
        ({"architecture": "gru_loop", "depth": 2}, "gru_loop has one cell"),
        ({"architecture": "rate_rnn", "depth": 2}, "rate_rnn has one cell"),
        ({"architecture": "rate_rnn", "width": 8, "rank": [2, 9]}, "rank=9 of recurrent weights must be in"),
        ({"gain": 1.5}, "mlp has no option 'gain'"),
        ({"sigma_of": {"fc9": 2}}, "no layer of mlp matches 'fc9'; near: fc"),
        ({"options": {"activatoin": "tanh"}}, "no option 'activatoin'; near: activation"),
        ({"train": {"n": 5000}}, "n=5000 must be between 1 and the 1400 samples"),
        ({"measure": {"n": 60}}, "measure.n=60 is above the 50 training samples"),
        ({"batch_size": [10, 51]}, "batch_size=51 is above the 50 training samples"),
        ({"measure": {"measures": ["capcity"]}}, "no measure 'capcity'; near: capacity"),
        ({"data": "digts"}, "data='digts' is not known; near: digits"),
        ({"options": {"inputs": 3}}, "mlp cannot take the inputs of 'digits'"),
    ],
)  # fmt: skip
def test_grids_that_cannot_be_trained_are_refused_before_any_training(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        runs(**changes)


def test_data_without_labels_or_with_samples_that_are_no_images_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "bare.npz", x=np.ones((60, 4)))
    with pytest.raises(BadInput, match="has neither labels nor targets to train on"):
        runs(data=f"npz:{tmp_path}/bare.npz")
    np.savez(tmp_path / "flat.npz", x=np.ones((60, 4)), y=np.arange(60) % 2)
    with pytest.raises(BadInput, match="cnn takes images"):
        runs(data=f"npz:{tmp_path}/flat.npz", architecture="cnn")


def test_other_data_under_the_same_name_is_another_run(tmp_path: Path) -> None:
    path, x = tmp_path / "own.npz", np.random.default_rng(0).normal(size=(60, 4))
    np.savez(path, x=x, y=np.arange(60) % 2)
    (before,) = runs(data=f"npz:{path}", seeds=1)
    np.savez(path, x=x + 1, y=np.arange(60) % 2)
    (after,) = runs(data=f"npz:{path}", seeds=1)
    assert before.address("v") != after.address("v")
    _dataset.cache_clear()  # as in another process
    with pytest.raises(BadInput, match="is not what the sweep was planned with"):
        dataset_of(before)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_every_architecture_is_built_to_the_data_with_its_documented_sizes(architecture: str) -> None:
    (run,) = runs(architecture=architecture, width=None, seeds=1)
    assert (run.width, run.depth) == SIZES[architecture]
    ours = dict(network_of(run, dataset_of(run)).named_parameters())
    theirs = dict(ARCHITECTURES[architecture](seed=0).named_parameters())
    if architecture == "cnn":  # its own default has two sizes; a sweep's width is one number
        theirs = dict(ARCHITECTURES["cnn"](channels=(32, 32), seed=0).named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_sigma_multiplies_initial_weights_globally_and_by_layer() -> None:
    data = dataset_of(runs(seeds=1)[0])
    plain, scaled = (dict(network_of(r, data).named_parameters()) for r in (
        runs(seeds=1)[0], runs(seeds=1, sigma=0.5, sigma_of={"fc*": 4.0, "fc2": 0.25})[0]
    ))  # fmt: skip
    for layer, factor in {"fc1": 2.0, "fc2": 0.5, "head": 0.5}.items():
        for kind in ("weight", "bias"):
            assert torch.equal(scaled[f"{layer}.{kind}"], factor * plain[f"{layer}.{kind}"])


def test_knobs_resolve_to_the_output_scale() -> None:
    found = {
        name: runs(parameterization="ntk", width=16, seeds=1, **{name: value})[0]
        for name, value in {"gamma": 3, "alpha": 4, "r": 0.25, "gamma0": 0.5}.items()
    }
    assert {name: r.gamma for name, r in found.items()} == {"gamma": 3, "alpha": 0.25, "r": 2, "gamma0": 2}
    assert found["r"].conditions()["r"] == 0.25
    assert "gamma0" not in found["gamma"].conditions()


def test_mup_is_the_ntk_parameterization_at_gamma_root_width() -> None:
    (mup,) = runs(parameterization="mup", width=64, seeds=1)
    (ntk,) = runs(parameterization="ntk", gamma0=1, width=64, seeds=1)
    assert mup.gamma == ntk.gamma == 8
    data = dataset_of(mup)
    pairs = zip(network_of(mup, data).parameters(), network_of(ntk, data).parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_gain_and_rank_are_axes_of_a_rate_network_and_columns() -> None:
    spec = "task:two-alternative-choice:n=50"
    found = runs(data=spec, architecture="rate_rnn", gain=[0.5, 2.0], rank=[1, 4], seeds=1)
    own = [(r.conditions()["gain"], r.conditions()["rank"]) for r in found]
    assert own == [(0.5, 1), (0.5, 4), (2.0, 1), (2.0, 4)]
    weights = [network_of(r, dataset_of(r)).get_parameter("recurrent").detach() for r in found]
    assert [int(torch.linalg.matrix_rank(w, rtol=1e-4)) for w in weights] == [1, 4, 1, 4]
    torch.testing.assert_close(weights[2], 4 * weights[0])
    assert network_of(found[0], dataset_of(found[0])).get_parameter("readout").shape == (2, 8)
    (plain,) = runs(data=spec, architecture="rate_rnn", seeds=1)
    assert {"gain", "rank"}.isdisjoint(plain.conditions())


def test_conditions_are_plain_values_under_the_documented_names() -> None:
    (run,) = runs(seeds=1, sigma_of={"fc1": 2.0})
    own = run.conditions()
    assert list(own) == ["data", "architecture", "width", "depth", "parameterization", "sigma", "eta", "gamma",
                         "optimizer", "batch_size", "seed", "sigma.fc1"]  # fmt: skip
    assert json.loads(json.dumps(own)) == own

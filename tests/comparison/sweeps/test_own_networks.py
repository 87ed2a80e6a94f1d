"""Sweeps over networks of one's own: keywords and columns, what identifies a run, trainings in practice, mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml

from geomfeat.comparison.relations import relate
from geomfeat.comparison.sweeps import SweepResult, sweep
from geomfeat.comparison.sweeps.config import parse_config, read_config
from geomfeat.comparison.sweeps.grid import dataset_of, network_of, runs_of
from geomfeat.comparison.sweeps.own_networks import OwnNetwork, own_network
from geomfeat.comparison.sweeps.run_config import RunConfig
from geomfeat.data.content_hash import contents
from geomfeat.errors import BadInput, OutputExists
from geomfeat.models.weights.checkpoints import load_weights
from geomfeat.numerics import stream
from geomfeat.regimes.training import PlainOptions, train_plainly
from geomfeat.tangent import OptimizerRates
from tests.data.test_tables import saved

NETWORKS = '''
import random

import numpy as np
import torch
from torch import nn

SHIFT = float(torch.rand(()))


def perceptron(width=8, depth=1, dropout=0.0, gamma=1.0):
    layers, size = [nn.Flatten()], 64
    for _ in range(depth):
        layers += [nn.Linear(size, width), nn.Tanh(), nn.Dropout(dropout)]
        size = width
    head = nn.Linear(size, 10)
    with torch.no_grad():
        head.bias.fill_(SHIFT + random.random() + np.random.rand())
    return nn.Sequential(*layers, head)


class Language(nn.Module):
    """Says the next of 6 tokens by the mean of those so far."""

    def __init__(self, width):
        super().__init__()
        self.embed, self.mix = nn.Embedding(6, width), nn.Linear(2 * width, width)
        self.head = nn.Linear(width, 6)

    def forward(self, ids):
        x = self.embed(ids)
        so_far = x.cumsum(1) / torch.arange(1, ids.shape[1] + 1)[:, None]
        return self.head(torch.tanh(self.mix(torch.cat([x, so_far], 2))))


def language(width=8):
    return Language(width)


def needs(width):
    return perceptron(width)


def nothing():
    return 3


def still():
    return nn.Flatten()


def five_outputs():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5))


number = 7
'''
SMALL: dict[str, Any] = {
    "model": "nets.py:perceptron", "seeds": 1, "train": {"n": 60, "max_steps": 20, "lr": 0.01},
    "measure": {"measures": ["stable_rank"], "location": False, "n": 40},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "nets.py").write_text(NETWORKS)
    return tmp_path


def planned(folder: Path, **changes: Any) -> tuple[RunConfig, ...]:
    """The runs of a config in a file beside the networks."""
    merged = {k: {**SMALL[k], **v} if isinstance(v, dict) and k in SMALL else v for k, v in changes.items()}
    config = {key: value for key, value in {**SMALL, **merged}.items() if value is not None}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(config))
    return runs_of(read_config(folder / "sweep.yaml"))


def swept(folder: Path, **changes: Any) -> SweepResult:
    planned(folder, **changes)
    return sweep(folder / "sweep.yaml", folder / "out", progress=False)


def test_keywords_rates_and_decay_are_axes_and_whole_ranges_give_whole_numbers(folder: Path) -> None:
    found = planned(
        folder, knobs={"width": [4, 8], "depth": {"low": 1, "high": 4, "count": 3}, "dropout": ["1e-1"]},
        train={"lr": {"low": 0.01, "high": 0.1, "count": 2}, "weight_decay": [0.0, 0.1]},
    )  # fmt: skip
    assert len(found) == 2 * 3 * 2 * 2
    assert {r.own.knobs["depth"] for r in found if r.own} == {1, 2, 4}
    assert {r.own.knobs["dropout"] for r in found if r.own} == {0.1}
    assert {(r.width, r.depth) for r in found} == {(w, d) for w in (4, 8) for d in (1, 2, 4)}
    assert {(r.eta, r.train.weight_decay) for r in found} == {(e, d) for e in (0.01, 0.1) for d in (0.0, 0.1)}
    assert all(json.loads(r.canonical())["train"]["lr"] == r.eta for r in found)


def test_eta_is_the_rate_and_random_designs_draw_keywords(folder: Path) -> None:
    design = {"design": {"random": 30, "seed": 1}, "knobs": {"depth": {"low": 1, "high": 4}}, "eta": [0.01, 0.1]}
    (folder / "random.yaml").write_text(yaml.safe_dump({**SMALL, **design, "train": {"n": 60}}))
    found = runs_of(read_config(folder / "random.yaml"))
    assert {(r.eta, r.train.model_dump()["lr"]) for r in found} == {(0.01, 0.01), (0.1, 0.1)}
    assert {r.depth for r in found} == {1, 2, 3, 4}


def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before(folder: Path) -> None:
    spec = f"{folder}/nets.py:perceptron"
    own = OwnNetwork(model=spec, sums=tuple(contents(spec)), knobs={"width": 4})
    torch.manual_seed(1)
    first = own_network(own, 3, 1.0).state_dict()
    state = torch.get_rng_state()
    again, other, twice = (own_network(own, *how).state_dict() for how in ((3, 1.0), (4, 1.0), (3, 2.0)))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)
    assert all(torch.equal(2 * first[name], twice[name]) for name in first)


def test_what_the_file_holds_is_part_of_what_a_run_is(folder: Path) -> None:
    (before,) = planned(folder)
    swept(folder)
    (folder / "nets.py").write_text(NETWORKS.replace("nn.Tanh()", "nn.ReLU()"))
    (after,) = planned(folder)
    assert before.address("v") != after.address("v")
    with pytest.raises(BadInput, match=r"nets\.py.* is not what the sweep was planned with"):
        network_of(before, dataset_of(before))
    with pytest.raises(OutputExists, match=r"this config lacks .*nets\.py:perceptron has changed since"):
        swept(folder)


def test_a_folder_may_be_moved_with_its_network(folder: Path, tmp_path: Path) -> None:
    """Where the file lies decides no number: on another machine nothing is trained again."""
    swept(folder)
    there = tmp_path / "elsewhere"
    there.mkdir()
    for name in ("nets.py", "sweep.yaml", "out"):
        (folder / name).rename(there / name)
    before = {p: p.stat().st_mtime_ns for p in there.glob("out/runs/*/run.json")}
    assert sweep(there / "sweep.yaml", there / "out", progress=False).outcomes == {"completed": 1}
    assert {p: p.stat().st_mtime_ns for p in there.glob("out/runs/*/run.json")} == before


def test_runs_of_another_version_are_told_as_such(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swept(folder)
    monkeypatch.setattr("geomfeat.comparison.sweeps._sweep.code_version", lambda: "0.0+other")
    with pytest.raises(OutputExists, match="holds 1 of these 1 runs made by another version"):
        swept(folder)


def test_a_run_is_the_training_of_the_network_by_these_options(folder: Path) -> None:
    options = {
        "optimizer": "adamw", "schedule": "cosine", "warmup_steps": 3, "clip": 0.5, "batch_size": 10,
        "accumulation": 2, "weight_decay": 0.1,
    }  # fmt: skip
    made = swept(
        folder, knobs={"dropout": 0.2, "gamma": 5.0}, train={**options, "ema": 0.8}, measure={"location": True}
    )
    ((address, run),) = made.plan.items()
    data = dataset_of(run)
    found = train_plainly(
        network_of(run, data), data.inputs, data.labels, seed=0,
        options=PlainOptions(**options, lr=0.01, max_steps=20, ema=0.8),
    )  # fmt: skip
    assert found.ema is not None
    kept = load_weights(network_of(run, data), made.folder / "runs" / address / "trained.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(kept.parameters(), found.ema.parameters(), strict=True))
    table = made.table
    assert (table["knob.gamma"] == 5.0).all() and (table["gamma"] == 1.0).all()  # noqa: PT018
    assert set(table["architecture"]) == {"nets.py:perceptron"}
    numbers = table[table["measure"] == "training"].set_index("quantity")
    said = torch.nn.functional.cross_entropy(kept.eval()(data.inputs), data.labels).item()
    assert numbers.loc["train_loss", "value"] == pytest.approx(said / np.log(10), rel=1e-5)
    assert "give gamma" in numbers.loc["sharpness", "note"]
    assert found.rates is not None
    kept_rates = OptimizerRates.load(made.folder / "runs" / address / "optimizer.safetensors")
    assert (kept_rates.rates, kept_rates.adaptive) == (found.rates.rates, found.rates.adaptive)
    assert table[table["quantity"] == "richness"]["ok"].all()


def test_with_an_output_scale_it_is_trained_at_gamma(folder: Path) -> None:
    (folder / "sweep.yaml").write_text(
        yaml.safe_dump({**SMALL, "gamma": [0.5, 2.0], "train": {"n": 60, "max_steps": 300, "target_loss": 0.5}})
    )
    made = sweep(folder / "sweep.yaml", folder / "out", progress=False)
    assert made.outcomes == {"matched": 2}
    assert set(made.table["gamma"]) == {0.5, 2.0}
    assert made.table[made.table["quantity"] == "sharpness"]["ok"].all()


def test_a_language_model_learns_the_next_token_and_is_read_at_the_last(folder: Path) -> None:
    ids = (torch.arange(60)[:, None] + torch.arange(5)) % 6
    ids = torch.where(torch.rand(ids.shape, generator=stream(0, "ids")) < 0.1, 0, ids)
    np.savez(folder / "ids.npz", x=ids.numpy())
    made = swept(
        folder, model="nets.py:language", data=f"npz:{folder}/ids.npz", knobs={"width": [6, 8, 12]},
        train={"n": 50, "max_steps": 60, "lr": 0.05, "batch_size": 10},
        measure={"location": {"n_probes": 12, "n_bootstrap": 2}},
    )  # fmt: skip
    table = made.table
    accuracy = table[table["quantity"] == "train_accuracy"]["value"]
    assert (accuracy > 0.7).all()
    located = table[(table["quantity"] == "richness") & (table["layer"] == "")]
    assert located["ok"].all()
    assert all("last token, outputs less their mean" in text for text in located["options"])
    widths = relate(table, measures=[]).slopes
    assert set(widths["term"]) == {"width"}
    assert not widths["expected"].any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "none.py:make"}, r"model: no such file: '.*none\.py'"),
        ({"model": "nets.py:perceptrn"}, "has no 'perceptrn'; near: perceptron"),
        ({"model": "nets.py:number"}, "is a int, not a function"),
        ({"model": "nets.py:nothing"}, "returned int, not a torch.nn.Module"),
        ({"model": "nets.py:still"}, "without parameters to train"),
        ({"model": "nets.py:needs"}, "knobs: .*needs width: give a value"),
        ({"knobs": {"widht": 3}}, r"knobs\.widht: .*takes no such keyword; near: width"),
        ({"knobs": {"width": "wide"}}, "failed when it was called: TypeError"),
        ({"knobs": {"dropout": [0.1, "no"]}}, r"knobs\.dropout=.* mixes numbers and text"),
        ({"model": "nets.py:five_outputs"}, r"five_outputs.* cannot learn data='digits'.*classes 0\.\.4"),
        ({"model": "nets.py:language"}, "language.* cannot learn data='digits'"),
        ({"train": {"loss": "next-token"}}, "next token is the target of token ids"),
        ({"train": {"max_step": 3}}, r"train\.max_step: no such key; near: max_steps"),
        ({"train": {"accumulation": 2}}, "train: accumulation=2 adds up batches: give batch_size too"),
        ({"train": {"lr": [0.1, -1]}}, r"train\.lr: Input should be greater than 0"),
        ({"width": 3}, r"width: it is of reference architectures: .*knobs\.width"),
        ({"batch_size": 3}, r"batch_size: give it as train\.batch_size"),
        ({"eta": 0.1}, "eta and train.lr both set the learning rate"),
        ({"gamma": 1.0, "train": {"lr": 0.1}}, r"train\.lr: it is of a training without an output scale"),
        ({"gamma": 1.0, "alpha": 1.0, "train": None}, "gamma and alpha both set the output scale"),
    ],
)  # fmt: skip
def test_mistakes_are_reported_before_any_training(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        planned(folder, **changes)


def test_keywords_without_a_model_are_refused() -> None:
    with pytest.raises(BadInput, match="knobs: they are those of a model of one's own: name it too"):
        parse_config({"knobs": {"width": 3}})


def test_runs_of_reference_architectures_are_written_as_before() -> None:
    located = {"measure": {"location": {"n_probes": 8}}, "seeds": 1}
    (run,) = runs_of(parse_config(located))
    written = json.loads(run.canonical())
    assert "own" not in written
    assert written["measure"]["location"] == {"n_probes": 8, "n_bootstrap": None}


WITH_MASK = '''
import torch
from torch import nn


class Classifier(nn.Module):
    """The mean of the tokens that are there, called as language models are."""

    def __init__(self, width, outputs, each):
        super().__init__()
        self.embed, self.mix = nn.Embedding(7, width), nn.Linear(width, width)
        self.head, self.each = nn.Linear(width, outputs), each

    def forward(self, input_ids, attention_mask):
        x = torch.tanh(self.mix(self.embed(input_ids))) * attention_mask[..., None]
        count = attention_mask.cumsum(1) if self.each else attention_mask.sum(1, keepdim=True)
        return self.head((x.cumsum(1) if self.each else x.sum(1)) / count[..., None].clamp_min(1).squeeze(1))


def classes(width=8):
    return Classifier(width, 2, each=False)


def tokens(width=8):
    return Classifier(width, 7, each=True)
'''


@pytest.mark.parametrize(("name", "loss"), [("classes", "cross-entropy"), ("tokens", "next-token")])
def test_sets_saved_by_datasets_are_learned_and_located(folder: Path, name: str, loss: str) -> None:
    """Token ids with and without labels, of unequal lengths: padding is neither input nor target."""
    (folder / "nets.py").write_text(WITH_MASK)
    ids = [[1 + (i + j) % 5 for j in range(3 + i % 3)] for i in range(24)]
    columns: dict[str, Any] = {"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]}
    if name == "classes":
        columns["label"] = [row[0] % 2 for row in ids]
    path = saved(folder / "texts", pa.table(columns))
    readout = {"readout": "last"} if name == "tokens" else {}
    found = swept(
        folder, model=f"nets.py:{name}", data=f"hf-dataset:{path}", knobs={"width": [4, 8]},
        train={"n": 24, "max_steps": 60, "lr": 0.05, "optimizer": "adamw", "loss": loss},
        measure={"location": {"n_probes": 8, "n_bootstrap": 2, **readout}, "n": 20},
    )  # fmt: skip
    table = found.table
    for quantity in ("richness", "train_loss"):
        of_network = table[table["quantity"].eq(quantity) & table["layer"].eq("")]
        assert len(of_network) == 2
        assert of_network["ok"].all(), of_network["note"].tolist()
        assert np.isfinite(of_network["value"]).all()
    assert of_network["value"].max() < 0.8 * np.log(2 if name == "classes" else 7)

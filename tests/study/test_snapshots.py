"""What a study looks at is checked first: inputs, labels, weights, layers, and that all moments are one network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from geomfeat.activations import ExtractOptions
from geomfeat.errors import BadInput, CheckpointMismatch, LayerNotFound
from geomfeat.location._locate import locate
from geomfeat.location.options import LocateOptions
from geomfeat.study import StudyOptions, analyze
from geomfeat.study.snapshots import PROJECTED, Look, Subject, make_subject
from geomfeat.types import Snapshot
from tests.study.small import digits, make_seeded, model_at, states


def subject(**changes: Any) -> Subject:
    x, y = digits()
    given = {"trained": model_at(2), "inputs": x, "labels": y, "initial": model_at(0), "checkpoints": None,
             "layers": "*", "look": Look.of()}  # fmt: skip
    given |= changes
    return make_subject(given.pop("trained"), given.pop("inputs"), given.pop("labels"), **given)


def test_the_star_stands_for_hidden_layers_with_weights() -> None:
    assert subject().layers == subject(layers=["*"]).layers == ("1", "3")


def test_patterns_choose_other_layers() -> None:
    assert subject(layers=["type:ReLU", "5"]).layers == ("2", "4", "5")


def test_an_unknown_layer_is_refused_with_near_names() -> None:
    with pytest.raises(LayerNotFound, match=r"no layer matches 'fc1'.*geomfeat extract --list"):
        subject(layers=["fc1"])


def test_a_model_without_hidden_layers_says_so() -> None:
    with pytest.raises(BadInput, match=r"the model has none: the model has no hidden layer.*Name layers"):
        subject(trained=nn.Linear(4, 2), initial=None, inputs=torch.randn(6, 4), labels=None)


@pytest.mark.parametrize("initial", [model_at(0), Snapshot(model_at(0), "init"), states()[0]])
def test_a_moment_is_a_module_a_snapshot_or_a_state(initial: Any) -> None:
    made = subject(initial=initial)
    assert list(made.snapshots) == ["init", "trained"]
    torch.testing.assert_close(dict(made.snapshots["init"].model.state_dict()), states()[0])


def test_checkpoints_come_in_the_order_of_their_steps() -> None:
    steps = {1000: states()[1], 20: Snapshot(model_at(1), 20), "3": model_at(1)}
    assert list(subject(checkpoints=steps).snapshots) == ["init", "3", "20", "1000", "trained"]


def test_a_checkpoint_cannot_be_called_trained() -> None:
    with pytest.raises(BadInput, match="'trained' is not a step"):
        subject(checkpoints={"trained": model_at(1)})


def test_another_architecture_is_refused_and_what_differs_is_listed() -> None:
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 11), nn.ReLU(), nn.Linear(11, 10))
    with pytest.raises(CheckpointMismatch, match=r"'init'.*shapes differ 3\.weight: \(11, 16\) and \(12, 16\)"):
        subject(initial=other)
    with pytest.raises(CheckpointMismatch, match=r"missing 1\.bias.*unexpected bias, weight"):
        subject(initial=nn.Linear(64, 10))
    with pytest.raises(CheckpointMismatch, match=r"checkpoint '7' does not fit.*3\.weight"):
        subject(checkpoints={7: other.state_dict()})


@pytest.mark.parametrize("at", ["init", "trained"])
def test_weights_that_are_not_finite_are_named(at: str) -> None:
    broken = make_seeded()
    with torch.no_grad():
        broken[3].weight[0, :2] = float("nan")  # type: ignore[index]
    with pytest.raises(BadInput, match=rf"'{at}' hold 2 NaN or infinite values in '3\.weight'.*earlier"):
        subject(**{"initial" if at == "init" else "trained": broken})


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        (torch.zeros(59), "59 entries, but there are 60"),
        (torch.rand(59, 2), "59 entries, but there are 60"),
        (torch.full((60,), torch.nan), "NaN"),
        (torch.zeros(60, 10).long(), "shape"),
    ],
)
def test_labels_that_are_no_classes_and_no_values_are_refused(labels: torch.Tensor, why: str) -> None:
    with pytest.raises(BadInput, match=f"labels.*{why}"):
        subject(labels=labels)


@pytest.mark.parametrize("values", [torch.rand(60), torch.rand(60, 1), torch.rand(60, 10), torch.arange(60) / 7])
def test_values_are_what_was_learned_and_no_classes(values: torch.Tensor) -> None:
    made = subject(labels=values)
    assert made.labels is None
    torch.testing.assert_close(made.goal, values)


@pytest.mark.parametrize("column", [np.array([["b"], ["a"]] * 30), np.array([["b"], ["a"]] * 30, object)])
def test_a_column_of_names_is_classes(column: np.ndarray) -> None:
    made = subject(labels=column)
    assert made.classes == ("a", "b")
    assert made.labels is not None
    assert made.goal is not None
    assert made.labels.tolist() == made.goal.tolist() == [1, 0] * 30


def test_wide_layers_are_projected_alike_at_every_moment() -> None:
    made = subject(look=Look.of(ExtractOptions(project=13)))
    assert made.projected == {"1"}
    assert {k: r.d for k, r in made.features("init").items()} == {"1": 13, "3": 12}
    again = make_subject(model_at(0), digits()[0], None, initial=None, checkpoints=None, layers="*", look=made.look)
    torch.testing.assert_close(made.features("init")["1"].x, again.features("trained")["1"].x)


def test_by_default_only_very_wide_layers_are_projected() -> None:
    wide = nn.Sequential(nn.Linear(3, 4097), nn.ReLU(), nn.Linear(4097, 4096), nn.ReLU(), nn.Linear(4096, 2))
    made = make_subject(wide, torch.randn(5, 3), None, initial=None, checkpoints=None, layers="*", look=Look.of())
    assert {k: r.d for k, r in made.features("trained").items()} == {"0": PROJECTED, "2": 4096}
    whole = make_subject(
        wide,
        torch.randn(5, 3),
        None,
        initial=None,
        checkpoints=None,
        layers="*",
        look=Look.of(ExtractOptions(project=None)),
    )
    assert not whole.projected


@pytest.mark.parametrize("project", [0, -3, "wide", 2.5])
def test_a_projection_is_auto_none_or_a_number(project: Any) -> None:
    with pytest.raises(BadInput, match="project="):
        ExtractOptions(project=project)


def test_outputs_that_are_no_matrix_are_done_without() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)
            self.head = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> str:
            self.head(torch.relu(self.fc(x)))
            return "no tensor"

    made = make_subject(Odd(), torch.randn(6, 4), None, initial=None, checkpoints=None, layers=["fc"], look=Look.of())
    assert not made.has_outputs
    assert made.features("trained")["fc"].outputs is None


def test_moments_of_one_network_may_make_their_weights_differently() -> None:
    x, y = digits(30)
    norm = nn.utils.parametrizations.weight_norm

    def net() -> nn.Module:
        torch.manual_seed(1)
        parts = norm(nn.Linear(x[0].numel(), 8)), nn.Tanh(), norm(nn.Linear(8, 6)), nn.Tanh(), nn.Linear(6, 10)
        return nn.Sequential(nn.Flatten(), *parts).eval()

    start, end = net(), net()
    with torch.no_grad():
        for layer in (end[1], end[3], end[5]):
            layer.bias.add_(0.3)
    for layer in (end[1], end[3]):
        nn.utils.parametrize.remove_parametrizations(layer, "weight")
    study = analyze(
        end,
        x,
        y,
        initial=start,
        location=LocateOptions(n_bootstrap=4),
        progress=False,
        options=StudyOptions(umap=False),
    )
    alone = locate(end, x, y, initial=start, seed=0, progress=False, options=LocateOptions(n_bootstrap=4))
    assert study.location is not None
    assert study.location.richness == alone.richness
    changes = study.table.loc[study.table["at"] == "init->trained"].set_index(["measure", "layer"])
    assert bool(changes.loc[("linearisation_gap", ""), "ok"].all())
    assert float(changes.loc[("weight_movement", "1"), "value"].iloc[0]) == 0.0

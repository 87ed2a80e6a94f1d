"""Options of an extraction: given beside the call or in one object, and the same in every call."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from geomfeat.activations import ExtractOptions, extract, readable_layers
from geomfeat.activations.random_projection import PROJECTED, WIDE
from geomfeat.errors import BadInput

X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def wide() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, WIDE + 1), nn.ReLU(), nn.Linear(WIDE + 1, WIDE), nn.ReLU(), nn.Linear(WIDE, 2))


def test_auto_projects_layers_of_more_than_4096_features(wide: nn.Module) -> None:
    found = extract(wide, X, layers="type:Linear", project="auto", progress=False)
    assert {name: rep.d for name, rep in found.items()} == {"0": PROJECTED, "2": WIDE, "4": 2}
    by_number = extract(wide, X, layers="0", project=PROJECTED, progress=False)["0"]
    assert torch.equal(found["0"].x, by_number.x)
    assert found["0"].meta["project"] == PROJECTED
    assert found["2"].meta["project"] is None
    options = ExtractOptions(project="auto")
    assert readable_layers(wide, X, layers="type:Linear", options=options) == {"0": PROJECTED, "2": WIDE, "4": 2}


@pytest.mark.parametrize("options", [None, ExtractOptions(batch_size=2), ExtractOptions(project=None)])
def test_nothing_is_projected_unless_it_is_asked_for(wide: nn.Module, options: ExtractOptions | None) -> None:
    assert extract(wide, X, layers="0", progress=False, options=options)["0"].d == WIDE + 1


def test_options_count_the_same_inside_the_object_and_beside_it() -> None:
    net, maps = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(12, 2)), torch.randn(6, 1, 4, 4)
    beside = extract(net, maps, layers="0", reduce="mean", project=2, progress=False)["0"]
    inside = extract(net, maps, layers="0", progress=False, options=ExtractOptions(reduce="mean", project=2))["0"]
    mixed = extract(net, maps, layers="0", reduce="mean", progress=False, options=ExtractOptions(project=2))["0"]
    assert torch.equal(beside.x, inside.x)
    assert torch.equal(beside.x, mixed.x)


@pytest.mark.parametrize("option", [{"reduce": "mean"}, {"project": 2}])
def test_an_option_given_twice_is_refused(wide: nn.Module, option: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=f"{next(iter(option))}= is given beside options= and in it"):
        extract(wide, X, progress=False, options=ExtractOptions(**option), **option)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"project": 0}, "project=0"),
        ({"project": "wide"}, "project='wide'"),
        ({"project": 2.5}, "project=2.5"),
    ],
)
def test_values_out_of_range_are_refused_when_the_object_is_made(option: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        ExtractOptions(**option)


def test_what_differs_from_the_defaults_is_known_also_of_a_mask() -> None:
    mask = torch.ones(6, 3)
    assert ExtractOptions(batch_size=256, reduce="flat" + "ten").given() == {}
    assert ExtractOptions(mask=mask, batch_dim=1).given() == {"mask": mask, "batch_dim": 1}

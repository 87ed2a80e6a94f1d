"""The capacity of a comparison is of as many samples of a class as that of a study."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from geomfeat.comparison.models.depth_profiles import profiles_of
from geomfeat.comparison.models.members import Member
from geomfeat.registry import get
from geomfeat.types import Representation
from tests.geometry.clouds import normal


def test_capacity_of_many_samples_is_that_of_the_samples_that_a_study_draws() -> None:
    labels = torch.arange(60) % 3
    layers = {
        name: Representation(normal(60, 8, seed=i) + 2 * labels[:, None], labels, name) for i, name in enumerate("ab")
    }
    limited = replace(get("capacity"), most_per_class=5)
    drawn = {name: limited.sampled(rep)[0] for name, rep in layers.items()}
    assert drawn["a"].n == 15
    members = [Member("many", "recording", layers), Member("drawn", "recording", drawn)]
    table, differences = profiles_of(members, [limited], n_draws=30, seed=0)
    values = table.pivot_table("value", ["layer", "quantity"], "model")
    assert values["many"].tolist() == pytest.approx(values["drawn"].tolist())
    notes = table.query("model == 'many'")["note"]
    assert notes.str.contains("at most 5 of each class, 15 of 60 samples").all()
    assert not table.query("model == 'drawn'")["note"].str.contains("at most 5").any()
    assert differences["log_difference"].tolist() == pytest.approx([0.0], abs=1e-12)

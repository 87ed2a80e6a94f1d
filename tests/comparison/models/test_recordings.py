"""Recordings with other trials than the rest: rows that correspond, whatever their number and order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import geomfeat as gf
from geomfeat.comparison.models import CompareOptions, compare
from geomfeat.numerics import stream

# Similarities of all pairs are added up in single precision; `gf.cka` works in double.
SINGLE = 1e-6
CONDITIONS = [f"stimulus {i}" for i in range(12)]
CENTRES = torch.randn(12, 5, generator=stream(0, "centres"), dtype=torch.float64)


def recorded(counts: list[int], noise: float, seed: int, **more: Any) -> gf.Recording:
    """Trials of 12 stimuli in a random order, as many of each as `counts` says, around common centres."""
    place = torch.repeat_interleave(torch.arange(12), torch.tensor(counts))
    draws = stream(seed, "trials")
    place = place[torch.randperm(len(place), generator=draws)]
    x = CENTRES[place] + noise * torch.randn(len(place), 5, generator=draws, dtype=torch.float64)
    return gf.Recording(x, [CONDITIONS[i] for i in place], **more)


def run(
    models: dict[str, Any], *given: Any, trials: str = "means", n_draws: int = 20, **more: Any
) -> gf.ModelComparison:
    options = CompareOptions(trials=trials, n_draws=n_draws, n_bootstrap=20)
    return compare(models, *given, **{"measures": [], "progress": False, "options": options, **more})


def test_means_of_conditions_line_up_whatever_the_number_and_order_of_trials() -> None:
    few, many = recorded([2] * 12, 0.0, 1), recorded(list(range(3, 15)), 0.0, 2)
    found = run({"few": few, "many": many})
    assert abs(found.similarity[0, 1] - 1) < 1e-12
    assert found.layers["n"].tolist() == [12, 12]
    assert found.layers["depth"].isna().all()
    assert found.settings["rows"] == "means of 12 conditions"
    assert found.settings["notes"][0] == (
        "rows are means of 12 conditions, over so many trials or samples each: few 2, many 3 to 14"
    )


def test_the_similarity_of_means_is_that_of_means_by_hand() -> None:
    one, two = recorded([3] * 12, 1.0, 1), recorded([5] * 12, 1.0, 2)
    by_hand = [
        torch.stack([r.x[torch.from_numpy(r.condition == c)].mean(0) for c in sorted(CONDITIONS)]) for r in (one, two)
    ]
    assert abs(run({"one": one, "two": two}).similarity[0, 1] - gf.cka(*by_hand).value) < SINGLE


def test_matched_trials_share_their_condition_and_not_their_noise() -> None:
    once = recorded([4] * 12, 3.0, 1)
    same, matched = (run({"a": once, "b": once}, trials=how).similarity[0, 1] for how in ("same", "matched"))
    assert abs(same - 1) < 1e-12
    assert matched < 0.6


def test_matched_trials_are_as_many_of_each_condition_and_drawn_by_the_seed() -> None:
    few, many = recorded([4] * 12, 0.5, 1, run=np.arange(48) % 4), recorded([9] * 12, 0.5, 2)
    found = run({"few": few, "many": many}, trials="matched", measures=["nc1"])
    assert found.layers["n"].tolist() == [48, 48]
    assert found.settings["rows"] == "4 matched trials of each of 12 conditions"
    assert found.similarity[0, 1] > 0.5
    again = run({"few": few, "many": many}, trials="matched", measures=["nc1"])
    other = run({"few": few, "many": many}, trials="matched", measures=["nc1"], seed=1)
    assert np.array_equal(found.similarity, again.similarity)
    assert found.similarity[0, 1] != other.similarity[0, 1]
    alone = run({"few": few, "other": recorded([9] * 12, 0.5, 3)}, trials="matched", measures=["nc1"])
    assert alone.profiles["value"][0] == found.profiles["value"][0]  # its rows do not depend on the other model


def test_the_same_trials_correspond_one_by_one() -> None:
    whole = recorded([4] * 12, 1.0, 1, run=np.arange(48) % 4, area=["V1", "V1", "V1", "IT", "IT"])
    parts = {area: whole.select(area=area) for area in whole.areas}
    found = run(parts, trials="same")
    layers = whole.to_representations()
    assert abs(found.similarity[0, 1] - gf.cka(layers["IT"], layers["V1"]).value) < SINGLE
    with pytest.raises(gf.BadInput, match="do not correspond one by one"):
        run({"a": whole, "b": recorded([4] * 12, 1.0, 2)}, trials="same")


def test_a_network_and_matrices_are_compared_by_the_names_of_conditions() -> None:
    few = recorded([3] * 12, 0.0, 1, area=["V1"] * 2 + ["IT"] * 3)
    order = torch.randperm(12, generator=stream(3, "order"))
    labels = [CONDITIONS[i] for i in order]
    net = nn.Sequential(nn.Linear(5, 5, bias=False), nn.Identity()).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(5))
    rdms = gf.rdm(CENTRES[order], name="rdm")
    rdms = gf.RDMs(rdms.vectors, rdms.dissimilarity, ("rdm",), labels)
    whole = gf.Recording(few.x, few.condition)
    seen = gf.RDMs(gf.rdm(CENTRES[order], dissimilarity="correlation").vectors, "correlation", ("s1",), labels)
    found = run({"net": net, "brain": whole, "rdm": rdms}, CENTRES[order], labels, layers="1", brain={"seen": seen})
    assert np.abs(found.similarity[:3, :3] - 1).max() < SINGLE
    assert found.kinds == {"net": "network", "brain": "recording", "rdm": "RDMs", "seen": "brain"}
    assert found.ranking.set_index("model").loc["brain", "similarity"] > 0.99
    with pytest.raises(gf.BadInput, match="model 'net' has no conditions"):
        run({"net": net, "brain": whole}, CENTRES[order], layers="1")
    with pytest.raises(gf.BadInput, match="one trial or sample of a condition; use trials='means'"):
        run({"net": net, "brain": whole}, CENTRES[order], labels, layers="1", trials="matched")
    with pytest.raises(gf.BadInput, match="is RDMs, which have no trials"):
        run({"brain": whole, "double": gf.stack_rdms([rdms, rdms], "ab")}, trials="matched")


def test_conditions_that_are_not_common_are_left_out_and_counted() -> None:
    whole = recorded([3] * 12, 1.0, 1)
    part = recorded([3] * 12, 1.0, 2).select(condition=CONDITIONS[:5])
    found = run({"whole": whole, "part": part})
    assert found.layers["n"].tolist() == [5, 5]
    lost = "7 of 12 conditions are not in all models and were left out: stimulus 10"
    assert found.settings["notes"][0].startswith(lost)
    with pytest.raises(gf.BadInput, match="conditions that all models have: 3 of 12, and 4 are needed"):
        run({"whole": whole, "part": part.select(condition=CONDITIONS[:3])})


def test_the_page_says_what_rows_are_and_speaks_of_areas(tmp_path: Any) -> None:
    one = recorded([3] * 12, 1.0, 1, area=["V1", "V1", "V1", "IT", "IT"])
    found = run({"one": one, "two": recorded([6] * 12, 1.0, 2)}, trials="matched", measures=["stable_rank"])
    text = found.to_html(tmp_path / "page.html").read_text()
    assert "2 recordings on the same conditions" in text
    assert "Rows are 3 matched trials of each of 12 conditions" in text
    assert "layers or areas" in text
    assert "Areas of recordings have no depth, and stand beside the layers." in text
    assert "changes from input to output" not in text.partition("<main>")[0]


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(gf.BadInput, match="use one of 'means', 'matched', 'same'"):
        CompareOptions(trials="all")


def test_capacities_of_recordings_are_compared_at_equal_numbers_of_trials_and_units() -> None:
    """Two samples of one population, of 4 trials in 12 units and of 10 in 16."""
    draws = stream(3, "population")
    centers = 2 * torch.randn(4, 16, generator=draws, dtype=torch.float64)
    sets = {}
    for name, trials, units in (("few", 4, 12), ("many", 10, 16)):
        x = centers.repeat_interleave(trials, 0) + torch.randn(4 * trials, 16, generator=draws, dtype=torch.float64)
        sets[name] = gf.Recording(x[:, :units], np.repeat(CONDITIONS[:4], trials))
    row = run(sets, trials="matched", measures=["capacity"], n_draws=8).differences.iloc[0]
    assert row["note"].startswith(
        "matched at 4 points a class and 12 units: mean of 10 random choices (seed 0), of: few 4"
    )
    assert "many 10 points a class and 16 units" in row["note"]
    by_hand = gf.matched_capacities({k: rec.to_representation() for k, rec in sets.items()}, n_draws=8)
    wanted, error = by_hand.difference("few", "many", log=True)
    assert (row["log_difference"], row["stderr"]) == pytest.approx((wanted, error))
    assert abs(wanted) < 4 * error
    assert row["difference"] == pytest.approx(by_hand.difference("few", "many")[0])

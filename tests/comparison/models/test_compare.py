"""Comparisons whose answer is known: copies, planted correspondences, trained against untrained, brains."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from geomfeat.comparison.models._compare import compare
from geomfeat.comparison.models.layer_similarity import projection_loss
from geomfeat.comparison.models.options import CompareOptions
from geomfeat.comparison.models.result import FILES, ModelComparison
from geomfeat.errors import BadInput, OutputExists
from geomfeat.geometry.rsa import RDMs, rdm, stack_rdms
from geomfeat.storage.atomic import file_sha256, write_parquet
from geomfeat.storage.npz_files import write_arrays
from geomfeat.types import Representation, Snapshot
from tests.comparison.planted import LABELS, N, layer, model, normal
from tests.reference.comparison import similarity_by_pairs
from tests.study.small import digits, model_at

CHEAP = {"measures": [], "progress": False}


@pytest.fixture(scope="module")
def copies() -> ModelComparison:
    """A model and its copy with every layer turned, scaled and shifted, with few draws."""
    one, two = model([0, 1, 2], labels=True), model([0, 1, 2], seed=1, labels=True)
    one["layer2"] = one["layer2"].with_(x=one["layer2"].x + 4 * normal(4, 12, name="classes")[LABELS])
    turned = {name: rep.with_(x=2.5 * rep.x @ torch.linalg.qr(normal(12, 12))[0]) for name, rep in one.items()}
    return compare({"one": one, "copy": turned, "two": two}, progress=False, options=CompareOptions(n_draws=24))


def test_a_turned_and_scaled_copy_is_the_same_model(copies: ModelComparison) -> None:
    same = copies.similarity[:3, 3:6]
    np.testing.assert_allclose(np.diag(same), 1, atol=1e-7)
    assert (same - np.diag(np.diag(same))).max() < 0.5
    assert copies.model_similarity[0, 1] == pytest.approx(1, abs=1e-7)
    both = copies.matches.query("model != 'two' and other != 'two'")
    assert len(both) == 6
    assert (both["layer"] == both["match"]).all()
    assert (both["depth"] == both["match_depth"]).all()
    assert np.linalg.norm(copies.model_map[0] - copies.model_map[1]) < 1e-3
    assert copies.model_similarity[0, 2] < 0.999


def test_draws_are_those_of_the_samples_and_so_the_same_in_a_copy(copies: ModelComparison) -> None:
    found = copies.profiles.query("measure == 'capacity' and quantity in ['capacity', 'radius', 'dimension']")
    one, other = (found.query("model == @name")["value"].to_numpy() for name in ("one", "copy"))
    assert len(one) == 9
    np.testing.assert_allclose(one, other, rtol=1e-6)
    paired = copies.differences.query("model == 'one' and other == 'copy'").iloc[0]
    assert abs(paired["log_difference"]) < 1e-6
    assert paired["stderr"] < 1e-6 < paired["stderr_unpaired"]
    against = copies.differences.query("model == 'one' and other == 'two'").iloc[0]
    assert against["log_difference"] < -4 * against["stderr"], (
        "the classes of 'one' were pulled apart in its last layer"
    )


def test_profiles_run_over_relative_depth(copies: ModelComparison) -> None:
    found = copies.profiles.query("model == 'one' and quantity == 'two_nn'")
    assert found["depth"].tolist() == [0, 0.5, 1]
    assert found["layer"].tolist() == ["layer0", "layer1", "layer2"]
    assert set(copies.profiles["measure"]) == {"capacity", "participation_ratio_corrected", "two_nn"}
    assert (copies.profiles.query("quantity == 'capacity'")["stderr"] > 0).all()


def test_similarity_is_that_of_the_definition_for_features_and_matrices() -> None:
    few = slice(0, 9)  # the definition takes time with the fourth power
    first, second = (
        {name: rep.take(few) for name, rep in made.items()} for made in (model([0, 1], noise=0.3), model([1], seed=2))
    )
    layers = [rep.x.numpy() for rep in (*first.values(), *second.values())]
    as_matrix = RDMs(rdm(second["layer0"], dissimilarity="euclidean").vectors, "euclidean", ("alone",))
    for estimator in ("unbiased", "biased"):
        expected = similarity_by_pairs(layers, estimator)
        for other in (second, as_matrix):
            found = compare({"a": first, "b": other}, similarity=f"cka_linear_{estimator}", **CHEAP)
            np.testing.assert_allclose(found.similarity, expected, atol=2e-7)
            assert found.stderr[0, 1] > 0


def test_correlation_rdms_stand_for_z_scored_patterns() -> None:
    x, y = layer(0, noise=0.5)[:9], layer(0, seed=1)[:9]
    z = (x - x.mean(1, keepdim=True)) / (x - x.mean(1, keepdim=True)).norm(dim=1, keepdim=True)
    found = compare({"x": rdm(x, dissimilarity="correlation"), "y": Representation(y)}, **CHEAP)
    assert found.similarity[0, 1] == pytest.approx(similarity_by_pairs([z.numpy(), y.numpy()], "unbiased")[0, 1])
    assert found.kinds == {"x": "RDMs", "y": "recording"}


@pytest.mark.parametrize("order", [[3, 0, 2, 1], [0, 1, 2, 3]])
def test_a_planted_correspondence_is_found(order: list[int]) -> None:
    found = compare({"a": model(range(4), noise=0.5), "b": model(order, seed=1, noise=0.5)}, **CHEAP)
    there = found.matches.query("model == 'b'")["match"].tolist()
    assert there == [f"layer{factor}" for factor in order]
    back = found.matches.query("model == 'a'")["match"].tolist()
    assert back == [f"layer{order.index(factor)}" for factor in range(4)]
    # Each cluster of two leaves is a factor.
    joined = {tuple(sorted(pair)) for pair in found.linkage[:4, :2].astype(int).tolist()}
    assert joined == {(factor, 4 + order.index(factor)) for factor in range(4)}


def test_trained_twins_are_more_alike_than_trained_and_untrained() -> None:
    inputs, labels = digits()
    networks = {"initial": model_at(0), "on the way": Snapshot(model_at(1), 20), "trained": model_at(2)}
    found = compare(networks, inputs, labels, measures=["participation_ratio"], progress=False)
    assert found.layers["layer"].tolist() == ["1", "3"] * 3
    start, way, end = range(3)
    assert found.model_similarity[end, way] > found.model_similarity[end, start] + 0.01
    assert found.model_similarity[end, start] < 0.99
    assert found.kinds["trained"] == "network"


def test_layers_can_be_chosen_by_model() -> None:
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, 3))
    found = compare({"a": model_at(2), "b": other}, digits()[0], layers={"a": ["1", "2"], "b": "type:Tanh"}, **CHEAP)
    assert list(zip(found.layers["model"], found.layers["layer"], strict=True)) == [("a", "1"), ("a", "2"), ("b", "2")]
    assert found.layers["depth"].tolist() == [0, 1, 0.5]


@pytest.fixture(scope="module")
def brains() -> tuple[dict[str, RDMs], ModelComparison]:
    """Six subjects that share the geometry of factor 2, a monkey that does too, and models that have it or not."""
    seen = lambda seed, noise: Representation(layer(2) + noise * normal(N, 12, seed=seed, name="subject"))  # noqa: E731
    subjects = [rdm(seen(seed, 0.7), dissimilarity="correlation", name=f"s{seed}") for seed in range(1, 7)]
    data = {"human": stack_rdms(subjects), "monkey": rdm(seen(9, 0.5), dissimilarity="correlation")}
    a = model([0, 1, 2, 3])
    a["dead"] = Representation(torch.ones(N, 5), layer="dead")
    models = {"a": a, "b": model([4, 2], noise=2.0), "control": rdm(layer(5), dissimilarity="correlation", name="v1")}
    return data, compare(models, brain=data, options=CompareOptions(n_bootstrap=120), **CHEAP)


def test_the_planted_layer_is_nearest_to_the_brain(brains: tuple[dict[str, RDMs], ModelComparison]) -> None:
    _, found = brains
    human = found.ranking.query("brain == 'human'")
    first = human.iloc[0]
    assert (first["model"], first["layer"], first["rank"]) == ("a", "layer2", 1)
    assert first["depth"] == 0.5
    assert first["low"] > human.query("layer == 'v1'")["similarity"].item()
    assert first["similarity"] <= first["ceiling_upper"] + 1e-12
    assert human.iloc[1]["model"] == "monkey"
    assert human["ok"].sum() == len(human) - 1
    assert human.query("not ok")["note"].item().startswith("32 conditions")
    assert (human.query("layer == 'layer0' and model == 'a'")["p_ceiling"] < 0.01).all()


def test_one_subject_has_no_lower_ceiling(brains: tuple[dict[str, RDMs], ModelComparison]) -> None:
    _, found = brains
    monkey = found.ranking.query("brain == 'monkey'")
    assert monkey.iloc[0]["layer"] in ("layer2", "human")
    assert monkey["ceiling_lower"].isna().all()
    assert any(note.startswith("monkey: one subject") for note in found.settings["notes"])


def test_brains_are_models_of_one_layer(brains: tuple[dict[str, RDMs], ModelComparison]) -> None:
    _, found = brains
    assert found.names == ("a", "b", "control", "human", "monkey")
    assert found.kinds["human"] == "brain"
    assert found.matches.query("model == 'human' and other == 'a'")["match"].item() == "layer2"
    assert found.matches.query("model == 'human' and other == 'monkey'")["similarity"].item() > 0.6


def test_a_dead_layer_is_reported_and_costs_no_other(brains: tuple[dict[str, RDMs], ModelComparison]) -> None:
    _, found = brains
    dead = found.layers.index[found.layers["layer"] == "dead"].item()
    assert np.isnan(np.delete(found.similarity[dead], dead)).all()
    assert found.order[-1] == dead
    assert np.isnan(found.layer_map[dead]).all()
    assert any(note.startswith("a dead: constant") for note in found.settings["notes"])
    assert np.isfinite(found.model_similarity).all()


def test_unmeasured_pairs_leave_a_brain_out_of_the_matrix_but_not_of_the_ranking() -> None:
    vectors = rdm(layer(1), dissimilarity="correlation").vectors.clone()
    vectors[0, 3] = torch.nan
    found = compare(
        {"a": model([0, 1])}, brain=RDMs(vectors, "correlation"), options=CompareOptions(n_bootstrap=20), **CHEAP
    )
    assert np.isnan(found.similarity[2, :2]).all()
    assert "not measured" in found.layers["note"].iloc[2]
    assert found.ranking["layer"].iloc[0] == "layer1"


def test_a_comparison_comes_back_from_its_folder(
    brains: tuple[dict[str, RDMs], ModelComparison], copies: ModelComparison, tmp_path: Path
) -> None:
    for i, found in enumerate((brains[1], copies)):
        back = ModelComparison.load(found.save(tmp_path / str(i)))
        assert back.names == found.names
        assert back.settings == found.settings
        for name in ("layers", "matches", "profiles", "differences", "ranking"):
            pd.testing.assert_frame_equal(getattr(back, name), getattr(found, name))
        for name in ("similarity", "stderr", "model_similarity", "linkage", "order", "layer_map", "map_shares"):
            np.testing.assert_array_equal(getattr(back, name), getattr(found, name))
    table = pd.read_parquet(tmp_path / "1" / "similarity.parquet")
    assert len(table) == 9 * 8 / 2
    assert table.query("model_a == 'one' and model_b == 'copy' and layer_a == layer_b")["similarity"].min() > 0.999


@pytest.mark.parametrize("name", FILES)
def test_damage_is_noticed_and_named(copies: ModelComparison, tmp_path: Path, name: str) -> None:
    folder = copies.save(tmp_path)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(BadInput, match=name):
        ModelComparison.load(folder)
    (folder / name).unlink()
    with pytest.raises(BadInput, match=f"{name} missing"):
        ModelComparison.load(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_users_is_left_alone(copies: ModelComparison, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputExists, match=f"{name} was not written by geomfeat"):
        copies.save(tmp_path)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [(name, "mine")]
    with pytest.raises(BadInput, match="folder='' names nothing"):
        copies.save("")


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("layers.parquet", lambda path: write_parquet(path, pd.DataFrame({"model": ["a"]})), "lacks the columns layer"),
        ("matches.parquet", lambda path: write_parquet(path, pd.DataFrame({"x": [1]})), "lacks the columns model"),
        ("comparison.npz", lambda path: write_arrays(path, {"similarity": np.eye(2)}), "similarity is missing"),
        ("comparison.npz", lambda path: write_arrays(path, {}), "similarity is missing"),
    ],
)
def test_files_of_another_kind_are_refused_by_name(
    copies: ModelComparison, tmp_path: Path, name: str, write: Any, said: str
) -> None:
    folder = copies.save(tmp_path)
    write(folder / name)
    settings = json.loads((folder / "comparison.json").read_text())
    settings["files"][name] = file_sha256(folder / name)
    (folder / "comparison.json").write_text(json.dumps(settings))
    with pytest.raises(BadInput, match=rf"{name} is truncated or corrupt \(.*{said}"):
        ModelComparison.load(folder)


BAD = [
    ({"a": model([0])}, {}, "1 model, and two are needed"),
    ({}, {"brain": rdm(layer(0))}, "0 model and 1 brain"),
    ({"a": model([0]), "b": {"x": Representation(torch.eye(5))}}, {}, "'layer0' of 'a' have 32 samples.*'b' has 5"),
    ({"a": model([0]), "b": 3}, {}, "'b' is a int"),
    ({"a": model([0]), "b": {}}, {}, "'b' is a dict"),
    ({"a": model([0]), "b": {"x": torch.eye(N)}}, {}, "layer 'x' of model 'b' is a Tensor"),
    ({"a": model([0]), "b": model_at(0)}, {}, "'b' is a network: give the inputs"),
    ({"a": model([0]), "b": model([1])}, {"similarity": "cka"}, "similarity='cka'"),
    ({"a": model([0]), "b": model([1])}, {"layers": {"c": "*"}}, "the unknown model 'c'"),
    ({"a": model([0]), "b": model([1])}, {"measures": ["capacity"]}, "'capacity' cannot be taken.*labels"),
    ({"a": model([0]), "b": model([1])}, {"measures": ["cka_linear_biased"]}, "not of a single layer"),
    ({"a": model([0]), "b": model([1])}, {"brain": {"a": rdm(layer(0))}}, "'a' names a model and a brain"),
    ({"a": model([0]), "b": model([1])}, {"brain": {"c": layer(0)}}, "brain 'c' must be RDMs"),
    ({"a": model([0]), "b": model([1])}, {"brain": rdm(layer(0)[:9])}, "'brain' has 9"),
    ({"a": model([0]), "b": model([1])}, {"brain": torch.eye(N)}, "mapping of names to RDMs, got Tensor"),
    ({"a": model([0]), "b": model([1])}, {"labels": LABELS[:5]}, "labels have 5 samples"),
]  # fmt: skip


@pytest.mark.parametrize(("models", "options", "message"), BAD, ids=[message for *_, message in BAD])
def test_what_cannot_be_compared_is_reported(models: dict, options: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        compare(models, **{**CHEAP, **options})


def test_other_samples_of_the_same_number_are_noticed_by_their_labels() -> None:
    one, other = model([0], labels=True), model([0], labels=True)
    other = {name: replace(rep, labels=rep.labels.flip(0)) for name, rep in other.items()}
    with pytest.raises(BadInput, match="others, or in another order"):
        compare({"a": one, "b": other}, **CHEAP)


def test_what_a_network_cannot_run_on_names_the_network() -> None:
    with pytest.raises(BadInput, match=r"model 'net'.*cannot be called"):
        compare({"net": model_at(0), "a": model([0])}, torch.ones(N, 7), **CHEAP)


def test_without_labels_the_capacity_is_left_out_and_said_so() -> None:
    found = compare({"a": model([0]), "b": model([1])}, progress=False)
    assert set(found.profiles["measure"]) == {"participation_ratio_corrected", "two_nn"}
    assert "labels" in found.settings["left_out"]["capacity"]
    assert found.differences.empty


def test_results_do_not_depend_on_the_other_models_or_their_order() -> None:
    models = {"a": model([0, 1], noise=0.1), "b": model([1, 2], seed=1), "c": model([2])}
    options = {"measures": ["two_nn"], "progress": False}
    every, few = compare(models, **options), compare({k: models[k] for k in "ba"}, **options)
    np.testing.assert_allclose(few.similarity[:2, 2:], every.similarity[2:4, :2], atol=1e-9)
    of_a = [f.profiles.query("model == 'a'")["value"].tolist() for f in (every, few)]
    assert of_a[0] == of_a[1]


def test_what_a_projection_costs_is_foretold() -> None:
    """Layers of 150 dimensions that share a half of their variance, exact and projected to 512 features."""
    n, d, width = 120, 4000, 512
    shared, own = normal(n, 150, name="shared"), [normal(n, 150, seed=i, name="own") for i in (0, 1)]
    spread = [normal(150, d, seed=i, name="spread") for i in (0, 1, 2)]
    exact = [shared @ spread[0] + x @ s for x, s in zip(own, spread[1:], strict=True)]
    projected = [x @ normal(d, width, seed=i, name="projection") / width**0.5 for i, x in enumerate(exact)]
    reps = [Representation(x, layer=str(i), meta={"project": width}) for i, x in enumerate(projected)]
    options = {"measures": [], "progress": False}
    whole = compare({"a": Representation(exact[0]), "b": Representation(exact[1])}, **options)
    found = compare({"a": reps[0], "b": reps[1]}, **options)
    losses = [projection_loss(rep) for rep in reps]
    expected = whole.similarity[0, 1] * np.sqrt((1 - losses[0]) * (1 - losses[1]))
    assert min(losses) > 0.2
    assert found.similarity[0, 1] == pytest.approx(expected, abs=4 * found.stderr[0, 1] / 3)
    assert abs(found.similarity[0, 1] - whole.similarity[0, 1]) > 0.05
    assert any("random projection of wide layers" in note for note in found.settings["notes"])
    assert not any("random projection" in note for note in whole.settings["notes"])

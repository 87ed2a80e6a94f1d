"""Layer by layer: the same numbers as in memory, one layer held at a time, and failures that say so."""

from __future__ import annotations

import gc
import math
import weakref
from pathlib import Path

import pytest
import torch
from torch import nn

from geomfeat.activations import ActivationStore, extract
from geomfeat.errors import BadInput, LayerNotFound
from geomfeat.geometry.manifolds import capacity, capacity_by_layer, capacity_difference, common_draws
from geomfeat.types import Representation
from tests.geometry.clouds import normal

LABELS = torch.arange(24) // 6


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 12), nn.Tanh())


@pytest.fixture
def store(tmp_path: Path) -> ActivationStore:
    found = ActivationStore(tmp_path / "store")
    for layer, width in (("a", 10), ("b", 14), ("c", 30), ("rnn[0]", 10)):
        found.write(layer, [normal(24, width, seed=width).numpy()])
    return found


def assert_same(a: dict, b: dict) -> None:
    assert list(a) == list(b)
    for layer in a:
        torch.testing.assert_close(a[layer].norms2, b[layer].norms2)
        assert (a[layer].dimension, a[layer].dichotomies) == (b[layer].dimension, b[layer].dichotomies)


def test_a_store_gives_what_memory_gives(model: nn.Module, tmp_path: Path) -> None:
    inputs = normal(24, 6).float()
    in_memory = capacity_by_layer(extract(model, inputs, labels=LABELS, progress=False), n_draws=30, resample=None)
    streamed = extract(model, inputs, labels=LABELS, store=tmp_path, progress=False)
    assert_same(capacity_by_layer(streamed, n_draws=30, resample=None), in_memory)
    assert_same(capacity_by_layer(tmp_path, LABELS, n_draws=30, resample=None), in_memory)
    assert_same(capacity_by_layer(str(tmp_path), LABELS.numpy(), n_draws=30, resample=None), in_memory)
    assert list(in_memory) == ["0", "1", "2", "3"]


def test_each_layer_has_the_draws_that_all_share(store: ActivationStore) -> None:
    options = {"n_draws": 40, "dichotomies": "balanced", "seed": 3}
    found = capacity_by_layer(store, LABELS, **options, resample=None)
    for layer, width in (("a", 10), ("c", 30)):
        x = normal(24, width, seed=width)
        alone = capacity(x, LABELS, draws=common_draws(x, LABELS, **options), resample=None)
        torch.testing.assert_close(found[layer].norms2, alone.norms2)
        assert found[layer].dichotomies == "balanced"
    assert capacity_difference(found["a"], found["c"]).n_draws == 40


def test_one_layer_is_held_at_a_time(store: ActivationStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a layer is loaded, those before it are gone, also the one that failed."""
    store.write("aa", [torch.full((24, 3), torch.nan).numpy()])
    store.write("ab", [torch.zeros(24, 3).numpy()])
    load, seen, held = ActivationStore.load, [], []

    def spied(self: ActivationStore, layer: str) -> Representation:
        gc.collect()
        held.append(sum(ref() is not None for ref in seen))
        rep = load(self, layer)
        seen.append(weakref.ref(rep.x))
        return rep

    monkeypatch.setattr(ActivationStore, "load", spied)
    found = capacity_by_layer(store, LABELS, n_draws=10, resample=None)
    assert held == [0] * 6
    assert len(found) == 6


def test_a_layer_that_fails_says_so_and_does_not_stop_the_others(store: ActivationStore) -> None:
    store.write("aa", [torch.full((24, 3), torch.nan).numpy()])
    store.write("ab", [torch.ones(24, 3).numpy()])
    store.write("ac", [normal(20, 3).numpy()])
    found = capacity_by_layer(store, LABELS, n_draws=10, center="global", resample=None)
    assert [layer for layer in found if math.isnan(found[layer].capacity)] == ["aa", "ab", "ac"]
    assert "layer 'aa' holds 72 NaN" in found["aa"].notes[0]
    assert "every point is at the origin" in found["ab"].notes[0]
    assert "labels has 24 entries, but there are 20 samples" in found["ac"].notes[0]
    assert (found["aa"].n_draws, found["aa"].center, len(found["aa"].norms2)) == (0, "global", 0)


@pytest.mark.parametrize(
    ("patterns", "layers"),
    [("*", ["a", "b", "c", "rnn[0]"]), ("rnn[0]", ["rnn[0]"]), (["[bc]", "a"], ["a", "b", "c"])],
)
def test_layers_are_chosen_by_name_or_glob(store: ActivationStore, patterns: object, layers: list[str]) -> None:
    assert list(capacity_by_layer(store, LABELS, layers=patterns, n_draws=4, resample=None)) == layers


def test_what_cannot_be_read_is_reported(store: ActivationStore, tmp_path: Path) -> None:
    with pytest.raises(LayerNotFound, match="no layer matches 'fc9'"):
        capacity_by_layer(store, LABELS, layers="fc9")
    with pytest.raises(BadInput, match="holds no labels"):
        capacity_by_layer(store)
    with pytest.raises(BadInput, match="holds no complete layer"):
        capacity_by_layer(tmp_path / "nowhere", LABELS)
    with pytest.raises(BadInput, match="holds no complete layer"):
        capacity_by_layer(store.path, LABELS, checkpoint="init")
    with pytest.raises(BadInput, match="cannot read layers of a Tensor"):
        capacity_by_layer(torch.ones(3), LABELS)
    with pytest.raises(BadInput, match="draws= belongs to one layer"):
        capacity_by_layer(store, LABELS, draws=(1, 2))
    for refused in ("target_se", "weights"):
        with pytest.raises(BadInput, match=f"{refused}= "):
            capacity_by_layer(store, LABELS, **{refused: 0.02})
    with pytest.raises(BadInput, match="no layer could be measured; layer 'a': n_draws=1"):
        capacity_by_layer(store, LABELS, n_draws=1)

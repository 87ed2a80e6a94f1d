"""Movement of weights from files, tensor by tensor: the explicit sums, whatever the files and the precision."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from geomfeat.errors import BadInput
from geomfeat.location.movement_only.ends import end_of, require_same_weights
from geomfeat.location.movement_only.weight_change import CHUNK, squares, weight_change
from geomfeat.measures.network.weight_movement import weight_movement
from geomfeat.snapshots import SnapshotPair
from geomfeat.types import Snapshot
from tests.models.sources.tiny import gpt_config, made, saved

LAYERS = ["transformer.h.0", "transformer.h.1", "transformer.h.1.mlp", "lm_head"]


def change(start: object, end: object, layers: list[str]) -> tuple[float, dict[str, float]]:
    before, after = end_of(start, "initial"), end_of(end, "model")
    require_same_weights(before, after)
    return weight_change(before, after, layers)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_the_explicit_sums_with_tied_weights_once(tmp_path: Path, dtype: torch.dtype) -> None:
    start, end = (made("GPT2LMHeadModel", gpt_config(), seed).to(dtype) for seed in (0, 1))
    old, new = (
        {name: p.detach().double() for name, p in model.named_parameters(remove_duplicate=True)}
        for model in (start, end)
    )

    def expected(prefix: str) -> float:
        names = [name for name in old if name.startswith(prefix)]
        moved = sum(float((new[n] - old[n]).square().sum()) for n in names)
        return math.sqrt(moved / sum(float(old[n].square().sum()) for n in names)) if names else math.nan

    saved(start, tmp_path / "start")
    saved(end, tmp_path / "parts", max_shard_size="5KB")
    saved(end, tmp_path / "end")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 2
    whole, by_layer = change(f"hf:{tmp_path / 'start'}", f"hf:{tmp_path / 'end'}", LAYERS)
    assert whole == pytest.approx(expected(""), rel=1e-12)
    assert by_layer == pytest.approx({layer: expected(f"{layer}.") for layer in LAYERS}, rel=1e-12, nan_ok=True)
    assert math.isnan(by_layer["lm_head"])  # tied, so counted as the embedding
    for other in (f"hf:{tmp_path / 'parts'}", end):
        again, each = change(start, other, LAYERS)
        assert again == whole
        assert each == pytest.approx(by_layer, nan_ok=True)


def test_it_is_that_of_the_measure() -> None:
    start, end = (made("GPT2LMHeadModel", gpt_config(), seed) for seed in (0, 1))
    measured = weight_movement(SnapshotPair(Snapshot(start, "init"), Snapshot(end), torch.zeros(1, 1)))
    whole, by_layer = change(start, end, ["transformer.h.0.mlp.c_fc"])
    assert whole == pytest.approx(measured[""]["frobenius"].value, rel=1e-9)
    assert by_layer["transformer.h.0.mlp.c_fc"] == pytest.approx(
        measured["transformer.h.0.mlp.c_fc"]["frobenius"].value, rel=1e-9
    )


def test_a_weight_that_is_made_of_others_counts_as_what_results() -> None:
    start = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), nn.Linear(4, 2))
    plain = copy.deepcopy(start)
    nn.utils.parametrize.remove_parametrizations(plain[0], "weight")
    with torch.no_grad():
        plain[0].weight.mul_(3.0)
        plain[0].bias.mul_(3.0)
    assert change(start, plain, ["0", "1"])[1] == pytest.approx({"0": 2.0, "1": 0.0})


def test_long_tensors_are_summed_in_parts() -> None:
    generator = torch.Generator().manual_seed(0)
    old, new = (torch.randn(3, CHUNK, dtype=torch.float64, generator=generator) for _ in range(2))
    assert squares(old, new) == pytest.approx((float((new - old).square().sum()), float(old.square().sum())))
    assert squares(torch.tensor([3j]), torch.tensor([3j + 4])) == (16.0, 9.0)


def test_weights_without_values_are_refused() -> None:
    with torch.device("meta"):
        empty = nn.Linear(2, 1)
    with pytest.raises(BadInput, match="meta device"):
        change(nn.Linear(2, 1), empty, [])

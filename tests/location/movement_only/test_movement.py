"""Movement without derivatives: it is that of `locate`, the same from modules, folders and streamed blocks."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import geomfeat as gf
from geomfeat.errors import BadInput, CheckpointMismatch, LayerDidNotFire
from geomfeat.location.movement_only.result import MOVEMENT_ONLY
from geomfeat.models.sources import load_model
from geomfeat.models.zoo import mlp
from tests.models.sources.tiny import gpt_config, made, saved, tokens

BLOCKS = ["transformer.h.0", "transformer.h.1"]
IDS = {"input_ids": tokens(10, 6)}
CLASSES = torch.arange(10) % 2


def llama_config(**changes: Any) -> Any:
    from transformers import LlamaConfig

    sizes = {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
    return LlamaConfig(**sizes | {"num_key_value_heads": 1, "vocab_size": 50, "max_position_embeddings": 12} | changes)


def ends(folder: Path, kind: str, dtype: torch.dtype = torch.float32, **how: Any) -> tuple[str, str]:
    """The SPECs of two folders, before and after a change of all weights of about a third of their size."""
    config = gpt_config(n_layer=2) if kind.startswith("GPT") else llama_config()
    start = made(kind, config)
    saved(start.to(dtype), folder / "start", **how)
    generator = torch.Generator().manual_seed(1)
    end = made(kind, config)
    with torch.no_grad():
        for p in end.parameters():
            p += 0.3 * p.std(correction=0).clamp_min(0.01) * torch.randn(p.shape, generator=generator)
    saved(end.to(dtype), folder / "end", **how)
    return f"hf:{folder / 'start'}", f"hf:{folder / 'end'}"


@pytest.fixture(scope="module")
def gpts(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return ends(tmp_path_factory.mktemp("gpt"), "GPT2LMHeadModel")


@pytest.fixture(scope="module")
def llamas(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return ends(tmp_path_factory.mktemp("llama"), "LlamaForCausalLM", torch.bfloat16, max_shard_size="10KB")


@pytest.fixture
def copied(gpts: tuple[str, str], tmp_path: Path) -> Path:
    return Path(shutil.copytree(gpts[1].removeprefix("hf:"), tmp_path / "copy"))


def moved(pair: tuple[Any, Any], inputs: Any = IDS, labels: Any = None, **how: Any) -> gf.Movement:
    return gf.movement(pair[1], inputs, labels, initial=pair[0], progress=False, **how)


def loaded(pair: tuple[str, str]) -> tuple[nn.Module, nn.Module]:
    return load_model(pair[0]), load_model(pair[1])


def assert_equal(one: gf.Movement, other: gf.Movement) -> None:
    assert one.to_frame().equals(other.to_frame())
    assert (one.n_parameters, one.precision, one.flags) == (other.n_parameters, other.precision, other.flags)


def test_flattened_it_is_the_movement_of_locate(gpts: tuple[str, str]) -> None:
    start, end = loaded(gpts)
    located = gf.locate(
        end, IDS, initial=start, layers=BLOCKS, progress=False, options=gf.LocateOptions(n_bootstrap=2, projections=2)
    )
    found = moved((start, end), reduce="flatten").layers
    assert list(found["layer"]) == BLOCKS
    assert found["movement"].tolist() == pytest.approx(located.layers["movement"].tolist(), abs=1e-5)


@pytest.mark.parametrize("kind", ["gpts", "llamas"])
def test_folders_and_streamed_blocks_give_the_numbers_of_modules(kind: str, request: pytest.FixtureRequest) -> None:
    pair = request.getfixturevalue(kind)
    in_memory = moved(loaded(pair), labels=CLASSES)
    assert in_memory.layers.drop(columns=["layer", "reduce"]).notna().all(axis=None)
    assert_equal(moved(pair, labels=CLASSES), in_memory)
    assert_equal(moved(pair, labels=CLASSES, stream=True), in_memory)
    assert_equal(moved((load_model(pair[0]), pair[1]), labels=CLASSES), in_memory)


def test_half_precision_is_near_single_precision(tmp_path: Path) -> None:
    single = moved(ends(tmp_path / "32", "LlamaForCausalLM"))
    half = moved(ends(tmp_path / "16", "LlamaForCausalLM", torch.bfloat16))
    assert (single.precision, half.precision) == ("float32", "bfloat16")
    assert half.layers["movement"].tolist() == pytest.approx(single.layers["movement"].tolist(), abs=0.02)
    assert half.weights == pytest.approx(single.weights, abs=0.02)


def test_the_numbers_are_those_of_the_mean_over_tokens(gpts: tuple[str, str]) -> None:
    features = [gf.extract(m, IDS, CLASSES, layers=BLOCKS, reduce="token_mean", progress=False) for m in loaded(gpts)]
    found = moved(gpts, labels=CLASSES).layers.set_index("layer")
    for layer in BLOCKS:
        old, new = (reps[layer] for reps in features)
        row, (a, b) = found.loc[layer], (old.x.double(), new.x.double())
        assert row["movement"] == pytest.approx(math.log10(float((b - a).norm() / a.norm())), abs=1e-5)
        assert row["cka"] == pytest.approx(gf.cka(old, new).value, abs=1e-4)
        spectrum = torch.linalg.eigvalsh(b.T.cov())
        assert row["dimension_after"] == pytest.approx(float(spectrum.sum() ** 2 / spectrum.square().sum()), rel=1e-4)
        assert row["capacity_before"] == pytest.approx(gf.capacity(old, seed=0).capacity, rel=1e-3)
        assert row["reduce"] == "token_mean"


@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_is_no_feature(llamas: tuple[str, str], side: str) -> None:
    start, end = (model.float() for model in loaded(llamas))
    ids, ones, zeros = IDS["input_ids"], torch.ones(10, 6, dtype=torch.int64), torch.zeros(10, 3, dtype=torch.int64)
    order = (1, 0) if side == "left" else (0, 1)
    padded = {
        "input_ids": torch.cat([(ids, zeros)[i] for i in order], 1),
        "attention_mask": torch.cat([(ones, zeros)[i] for i in order], 1),
    }
    if side == "left":
        padded["position_ids"] = (padded["attention_mask"].cumsum(1) - 1).clamp_min(0)
    plain, found = (moved((start, end), x) for x in (IDS, padded))
    for column in ("movement", "cka", "dimension_before", "dimension_after"):
        assert found.layers[column].tolist() == pytest.approx(plain.layers[column].tolist(), abs=1e-6)


def test_batches_change_nothing_and_labels_may_come_with_them(gpts: tuple[str, str]) -> None:
    start, end = (model.double() for model in loaded(gpts))
    whole = moved((start, end), IDS["input_ids"], CLASSES, batch_size=10)
    loader = DataLoader(TensorDataset(IDS["input_ids"], CLASSES), batch_size=4)
    parts = moved((start, end), loader, batch_size=3)
    for column in whole.layers.columns.drop(["layer", "reduce"]):
        assert parts.layers[column].tolist() == pytest.approx(whole.layers[column].tolist(), abs=1e-9)


def test_each_end_is_run_once_and_freed_before_the_other(
    gpts: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import GPT2LMHeadModel

    real, networks, sizes = GPT2LMHeadModel.forward, list[Any](), list[int]()

    def counted(self: Any, input_ids: Tensor, **kwargs: Any) -> Any:
        networks.append(self)
        sizes.append(len(input_ids))
        values = [not bool(net.transformer.wte.weight.isnan().any()) for net in networks]
        assert values == [net is self for net in networks]
        return real(self, input_ids, **kwargs)

    monkeypatch.setattr(GPT2LMHeadModel, "forward", counted)
    moved(gpts, batch_size=6)
    assert sizes == [6, 4, 6, 4]


def test_networks_without_blocks_are_measured_at_their_hidden_layers() -> None:
    start, end = mlp(5, (7, 6), 2, seed=0), mlp(5, (7, 6), 2, seed=1)
    x = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    found = moved((gf.Snapshot(start, "init"), gf.Snapshot(end)), x)
    located = gf.locate(end, x, initial=start, progress=False, options=gf.LocateOptions(n_bootstrap=2))
    assert list(found.layers["layer"]) == list(located.layers["layer"])
    assert found.layers["movement"].tolist() == pytest.approx(located.layers["movement"].tolist(), abs=1e-5)
    assert set(found.layers["reduce"]) == {"flatten"}
    assert "capacity_before" not in found.layers


def test_nested_outputs_are_their_first_tensor() -> None:
    start, end = (nn.Sequential(nn.LSTM(3, 4, batch_first=True)) for _ in range(2))
    x = torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(0))
    found = moved((start, end), x, layers="0").layers
    assert found["layer"].tolist() == ["0[0]"]
    assert 0 < found["weights"][0] < 3


def test_it_says_what_it_leaves_out_and_what_is_rounding(llamas: tuple[str, str]) -> None:
    start, end = loaded(llamas)
    found = moved((start, end))
    assert found.flags[0] == MOVEMENT_ONLY
    assert "participation ratios of 10 samples, at most 9" in found.flags[1]
    assert len(found.flags) == 2
    assert "demand R" in str(found)
    end.load_state_dict(start.state_dict())
    with torch.no_grad():
        end.model.norm.weight[0] = 2.0
        end.model.layers[1].mlp.down_proj.weight[0, 0] += 0.01
    near = moved((start, end))
    assert near.layers["movement"][0] == -math.inf
    assert near.movement == near.layers["movement"][1] < -1.8
    assert "rounding of bfloat16" in near.flags[-1]


# bad input


def test_other_architectures_are_refused_with_names_and_shapes(gpts: tuple[str, str], tmp_path: Path) -> None:
    saved(made("GPT2LMHeadModel", gpt_config(n_embd=8)), tmp_path)
    with pytest.raises(CheckpointMismatch, match=r"28 of their weights differ") as caught:
        moved((f"hf:{tmp_path}", gpts[1]))
    assert "transformer.wte.weight (50, 8) in 'hf:" in str(caught.value)
    assert str(caught.value).count(") in 'hf:") == 10
    assert "and 23 more" in str(caught.value)


def test_a_missing_shard_is_named(llamas: tuple[str, str], tmp_path: Path) -> None:
    shutil.copytree(llamas[1].removeprefix("hf:"), tmp_path / "copy")
    lost = min((tmp_path / "copy").glob("*.safetensors"))
    lost.unlink()
    with pytest.raises(BadInput, match=lost.name):
        moved((llamas[0], f"hf:{tmp_path / 'copy'}"))


def changed(folder: Path, change: Any) -> str:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return f"hf:{folder}"


def test_nan_is_named_by_layer(gpts: tuple[str, str], copied: Path) -> None:
    def damage(weights: dict[str, Tensor]) -> None:
        weights["transformer.h.1.mlp.c_fc.weight"][0, :3] = math.nan

    spec = changed(copied, damage)
    for pair in ((gpts[0], spec), (spec, gpts[1])):
        with pytest.raises(BadInput, match=r"copy' holds NaN .* 'transformer.h.1.mlp.c_fc' \(weight: 3 of 1024\)"):
            moved(pair)


def test_equal_weights_and_too_few_samples_are_refused(gpts: tuple[str, str]) -> None:
    with pytest.raises(BadInput, match="are equal, so nothing moved"):
        moved((gpts[0], gpts[0]))
    with pytest.raises(BadInput, match="3 samples: movement needs at least 4"):
        moved(gpts, {"input_ids": tokens(3)})


def test_only_folders_are_streamed(gpts: tuple[str, str]) -> None:
    with pytest.raises(BadInput, match="stream=True, but initial is a module"):
        moved((load_model(gpts[0]), gpts[1]), stream=True)
    with pytest.raises(BadInput, match=r"initial is 'geomfeat.models.mlp:mlp', of which weights cannot be read"):
        moved(("geomfeat.models.mlp:mlp", gpts[1]))


def test_weights_that_are_used_outside_of_their_block_are_noticed(
    gpts: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import GPT2Model

    real = GPT2Model.forward

    def own(self: Any, input_ids: Tensor, **kwargs: Any) -> Any:
        return real(self, **kwargs | {"inputs_embeds": nn.functional.embedding(input_ids, self.wte.weight)})

    monkeypatch.setattr(GPT2Model, "forward", own)
    assert moved(gpts).movement > -1
    with pytest.raises(BadInput, match=r"layer 'transformer.h.0' of 'hf:.*outside of the block's own call"):
        moved(gpts, stream=True)


def test_layers_that_are_not_called(gpts: tuple[str, str]) -> None:
    with pytest.raises(LayerDidNotFire, match=r"'transformer.h' was not called"):
        moved(gpts, layers=["transformer.h", *BLOCKS])
    assert list(moved(gpts, layers="*.attn").layers["layer"]) == [f"{block}.attn" for block in BLOCKS]

"""A network of a folder that runs with the weights of one block: the outputs of the whole, and nothing is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from geomfeat.models.sources import load_model
from geomfeat.models.sources._load_model import source_of
from geomfeat.models.sources.block_streaming import with_weights
from geomfeat.models.sources.lazy_weights import LazyWeights, lazy_weights
from tests.models.sources.tiny import bert_config, gpt, made, saved, tokens

CPU = torch.device("cpu")


def lazy(folder: Path) -> LazyWeights:
    return lazy_weights(source_of(f"hf:{folder}"), "model")


def present(network: nn.Module) -> list[str]:
    """Names of the parameters that have values."""
    return [name for name, p in network.named_parameters(remove_duplicate=False) if not bool(p.isnan().any())]


@pytest.mark.parametrize("by_block", [True, False])
def test_outputs_are_those_of_the_model(tmp_path: Path, by_block: bool) -> None:
    gpt(tmp_path / "gpt")
    saved(made("BertForSequenceClassification", bert_config()), tmp_path / "bert")
    for name in ("gpt", "bert"):
        weights = lazy(tmp_path / name)
        with with_weights(weights, CPU, by_block=by_block) as network, torch.no_grad():
            found = network(tokens()).logits
        assert torch.equal(found, load_model(f"hf:{tmp_path / name}")(tokens()).logits)
        assert not present(network)


def test_blocks_have_their_weights_only_while_they_are_called(tmp_path: Path) -> None:
    seen: dict[str, list[str]] = {}
    with with_weights(lazy(gpt(tmp_path)), CPU, by_block=True) as network, torch.no_grad():
        assert not present(network)
        for name, module in network.named_modules():
            module.register_forward_pre_hook(lambda *_, name=name: seen.update({name: present(network)}))
        network(tokens())
        assert not present(network)
    assert seen["transformer.wte"] == ["transformer.wte.weight"]
    assert seen["lm_head"] == ["lm_head.weight"]
    for block in ("transformer.h.0", "transformer.h.1"):
        assert len(seen[f"{block}.mlp.c_fc"]) == 12
        assert all(name.startswith(block) for name in seen[f"{block}.mlp.c_fc"])


@pytest.mark.parametrize("by_block", [True, False])
def test_nothing_is_left_after_an_error(tmp_path: Path, by_block: bool) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("own")

    weights = lazy(gpt(tmp_path))
    hooks = [len(m._forward_hooks) for m in weights.network.modules()]
    handle = weights.network.get_submodule("transformer.h.1.mlp").register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="own"), with_weights(weights, CPU, by_block=by_block) as network:
        network(tokens())
    handle.remove()
    assert not present(weights.network)
    assert [len(m._forward_hooks) for m in weights.network.modules()] == hooks
    assert not any(m._forward_pre_hooks for m in weights.network.modules())

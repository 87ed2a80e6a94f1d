"""Known answers on architectures that nobody here wrote: GPT-2, Llama, ViT and ResNet in small, from transformers."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from geomfeat.location import LocateOptions, Location, locate
from geomfeat.numerics import stream
from geomfeat.regimes.training import train_at_gamma

if importlib.util.find_spec("transformers") is None:
    pytest.skip("needs the package transformers (extra [models])", allow_module_level=True)
import transformers as hf

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
N = 8
TOKENS = {"input_ids": torch.randint(0, 40, (N, 8), generator=stream(0, "tokens"))}
PICTURES = {"pixel_values": torch.randn(N, 3, 16, 16, generator=stream(0, "pictures"))}
LABELS = torch.randint(0, 3, (N,), generator=stream(0, "labels"))
MATCHED_LOSS = 0.003  # so low that networks of all output scales have learned the same function on the samples


def last_token(output: Any, inputs: Any) -> Tensor:
    return output.logits[:, -1, :3]


def logits(output: Any, inputs: Any) -> Tensor:
    return output.logits


class Architecture(NamedTuple):
    name: str
    make: Callable[[], nn.Module]
    inputs: dict[str, Tensor]
    readout: Any


ARCHITECTURES = {
    a.name: a
    for a in (
        Architecture(
            "gpt2",
            lambda: hf.GPT2LMHeadModel(
                hf.GPT2Config(
                    n_embd=32, n_layer=1, n_head=2, vocab_size=40, n_positions=8, bos_token_id=0, eos_token_id=0
                )
            ),
            TOKENS,
            last_token,
        ),
        Architecture(
            "llama",
            lambda: hf.LlamaForCausalLM(
                hf.LlamaConfig(
                    vocab_size=40, num_key_value_heads=2, max_position_embeddings=16, bos_token_id=0, eos_token_id=0,
                    **SIZES,
                )
            ),
            TOKENS,
            last_token,
        ),
        Architecture(
            "vit",
            lambda: hf.ViTForImageClassification(hf.ViTConfig(image_size=16, patch_size=8, num_labels=3, **SIZES)),
            PICTURES,
            logits,
        ),
        Architecture(
            "resnet",
            lambda: hf.ResNetForImageClassification(
                hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=3)
            ),
            PICTURES,
            logits,
        ),
    )
}  # fmt: skip


@cache
def ends(name: str, gamma: float) -> tuple[nn.Module, nn.Module]:
    """The network before training and after it, to the same loss at every output scale."""
    arch = ARCHITECTURES[name]
    torch.manual_seed(0)
    start = arch.make().eval()
    found = train_at_gamma(
        start, arch.inputs, LABELS, gamma=gamma, target_loss=MATCHED_LOSS, readout=arch.readout, progress=False
    )
    return start, found.model


@cache
def place(name: str, gamma: float) -> Location:
    return located(name, *ends(name, gamma))


def located(name: str, start: nn.Module, end: nn.Module) -> Location:
    arch = ARCHITECTURES[name]
    return locate(
        end, arch.inputs, initial=start, readout=arch.readout, progress=False, options=LocateOptions(n_bootstrap=2)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_an_output_scale_moves_the_demand_by_its_decades(name: str) -> None:
    lazy, rich = (place(name, gamma) for gamma in (0.1, 10.0))
    assert rich.richness - lazy.richness == pytest.approx(2.0, abs=0.1)
    assert rich.regime == "rich"
    assert lazy.movement < rich.movement


@pytest.mark.slow
def test_weights_in_bfloat16_have_the_place_of_those_in_float32() -> None:
    start, end = ends("llama", 10.0)
    usual = place("llama", 10.0)
    short = located("llama", *(copy.deepcopy(m).to(torch.bfloat16) for m in (start, end)))
    assert short.richness == pytest.approx(usual.richness, abs=0.02)
    assert short.movement == pytest.approx(usual.movement, abs=0.02)


@pytest.mark.slow
def test_a_state_dict_has_the_place_of_its_model() -> None:
    start, end = ends("llama", 10.0)
    again = ARCHITECTURES["llama"].make().eval()
    again.load_state_dict(end.state_dict())
    assert located("llama", start, again).richness == pytest.approx(place("llama", 10.0).richness, abs=1e-12)

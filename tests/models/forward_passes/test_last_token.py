"""Passes of language models that compute the logits of the last token alone: when they do, and that nothing changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from geomfeat.models.functional import Functional, functional
from geomfeat.numerics import stream
from geomfeat.tangent import feature_jvp, jvp, ntk, vjp

TOKENS, WORDS = 5, 24


def gpt2() -> nn.Module:
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=WORDS, n_positions=16, bos_token_id=0, eos_token_id=0)
    ).eval()


def llama() -> nn.Module:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, vocab_size=WORDS,
            max_position_embeddings=16,
        )
    ).eval()  # fmt: skip


def tokens(n: int = 4) -> dict[str, Tensor]:
    return {"input_ids": torch.randint(0, WORDS, (n, TOKENS), generator=stream(0, "tokens"))}


@contextmanager
def positions_of_head(f: Functional) -> Iterator[list[int]]:
    """Of how many tokens the head gives logits, in every pass."""
    seen: list[int] = []
    head: Any = f.model.get_output_embeddings()  # type: ignore[operator]
    handle = head.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
    try:
        yield seen
    finally:
        handle.remove()


@pytest.mark.parametrize("make", [gpt2, llama])
@pytest.mark.parametrize("readout", [None, "last"])
def test_outputs_products_and_kernels_are_those_of_whole_passes(make: Any, readout: str | None) -> None:
    short, whole = (functional(make(), readout=readout) for _ in range(2))
    whole.shorter["last token alone"] = False
    x, cotangent = tokens(), torch.randn(4, WORDS, generator=stream(0, "cotangent"), dtype=torch.float64)
    pulled = vjp(whole, x, cotangent)
    with positions_of_head(short) as seen:
        found = vjp(short, x, cotangent)
        assert seen[-1] == 1
        torch.testing.assert_close(short(short.theta, short.inputs(x)), whole(whole.theta, whole.inputs(x)))
        torch.testing.assert_close(found, pulled)
        torch.testing.assert_close(jvp(short, x, pulled), jvp(whole, x, pulled))
        torch.testing.assert_close(ntk(short, x, outputs="full").gram, ntk(whole, x, outputs="full").gram)
        assert set(seen[3:]) == {1}
    with positions_of_head(whole) as seen:
        whole(whole.theta, whole.inputs(x))
        assert seen == [TOKENS]


@pytest.mark.parametrize(
    ("readout", "more"),
    [
        ("mean", {}),
        ("token:1", {}),
        (None, {"attention_mask": torch.tensor([[1, 1, 1, 0, 0]] * 4)}),
        (lambda output, inputs: output.logits[:, 0], {}),
    ],
    ids=["mean", "token", "mask", "function"],
)
def test_where_other_tokens_may_be_read_all_are_computed(readout: Any, more: dict[str, Tensor]) -> None:
    f = functional(gpt2(), readout=readout)
    with positions_of_head(f) as seen:
        vjp(f, tokens() | more, torch.ones(4, WORDS))
    assert set(seen) == {TOKENS}


def test_features_of_the_head_itself_are_those_of_all_tokens() -> None:
    f = functional(gpt2(), readout="last")
    direction = {name: torch.ones_like(value) for name, value in f.theta.items()}
    assert feature_jvp(f, tokens(), ["lm_head"], direction)["lm_head"][0].shape == (4, TOKENS * WORDS)


class KeepsTheFirst(GPT2LMHeadModel):
    """Its argument means something else."""

    def forward(self, input_ids: Tensor, logits_to_keep: int = 0) -> Any:
        found = super().forward(input_ids=input_ids)
        if logits_to_keep:
            found.logits = found.logits[:, :logits_to_keep]
        return found


def test_a_model_that_keeps_other_logits_is_read_as_before() -> None:
    plain = gpt2()
    odd = KeepsTheFirst(plain.config)  # type: ignore[arg-type]
    odd.load_state_dict(plain.state_dict())
    first, second = (functional(model, readout="last") for model in (plain, odd))
    torch.testing.assert_close(*(vjp(f, tokens(), torch.ones(4, WORDS)) for f in (first, second)))
    assert (first.shorter, second.shorter) == ({"last token alone": True}, {"last token alone": False})

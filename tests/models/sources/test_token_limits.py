"""Positions and vocabularies of networks of transformers, and token ids that they do not take."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from geomfeat.errors import BadInput
from geomfeat.models.sources.token_limits import TokenLimits, require_tokens_fit
from tests.models.sources.tiny import POSITIONS, VOCABULARY, gpt_config, lora, made, tokens


def test_limits_are_where_the_model_itself_fails() -> None:
    model = made("GPT2LMHeadModel", gpt_config())
    assert TokenLimits.of_model(model) == TokenLimits(POSITIONS, VOCABULARY)
    model(tokens(1, POSITIONS))
    with pytest.raises(IndexError):
        model(tokens(1, POSITIONS + 1))
    with pytest.raises(IndexError):
        model(torch.tensor([[VOCABULARY]]))


def test_positions_that_are_counted_from_after_the_padding() -> None:
    from transformers import RobertaConfig

    sizes = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 20}
    model = made("RobertaModel", RobertaConfig(**sizes, vocab_size=50, max_position_embeddings=12, pad_token_id=1))
    assert TokenLimits.of_model(model).positions == 10
    model(torch.full((1, 10), 5))
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, 11), 5))


def test_the_size_of_the_embedding_counts_and_not_that_of_the_config() -> None:
    model = made("GPT2LMHeadModel", gpt_config())
    model.config.vocab_size = 99
    assert TokenLimits.of_model(model).vocabulary == VOCABULARY
    assert TokenLimits.of_model(lora(made("GPT2LMHeadModel", gpt_config()))) == TokenLimits(POSITIONS, VOCABULARY)
    assert TokenLimits.of_model(nn.Linear(1, 1)) == TokenLimits()


def test_inputs_that_do_not_fit() -> None:
    model = made("GPT2LMHeadModel", gpt_config())
    require_tokens_fit(model, {"input_ids": tokens(2, POSITIONS)})
    require_tokens_fit(model, torch.ones(2, 99))
    require_tokens_fit(nn.Linear(1, 1), {"input_ids": tokens(2, 99)})
    with pytest.raises(BadInput, match=r"a sequence of 13 tokens, and the model has 12 positions: .*max_length=12"):
        require_tokens_fit(model, {"input_ids": tokens(2, POSITIONS + 1)})
    with pytest.raises(BadInput, match="the token id 50, and the model's vocabulary has 50 entries"):
        require_tokens_fit(model, {"input_ids": torch.tensor([[3, VOCABULARY]])})

"""Tiny models of transformers, tokenizers and adapters, saved as their libraries save them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("peft")

from geomfeat.models.sources.hugging_face import quiet

SENTENCE_WORDS = "the a cat dog sat ran on under mat log big small red blue old new"
WORDS = ["[PAD]", "[UNK]", *SENTENCE_WORDS.split()]
VOCABULARY, POSITIONS, WIDTH = 50, 12, 16


def gpt_config(**changes: Any) -> Any:
    from transformers import GPT2Config

    sizes = {"n_layer": 2, "n_embd": WIDTH, "n_head": 2, "vocab_size": VOCABULARY, "n_positions": POSITIONS}
    return GPT2Config(**sizes | {"bos_token_id": 0, "eos_token_id": 0} | changes)


def bert_config(**changes: Any) -> Any:
    from transformers import BertConfig

    sizes = {"num_hidden_layers": 2, "hidden_size": WIDTH, "num_attention_heads": 2, "intermediate_size": 20}
    return BertConfig(**sizes | {"vocab_size": VOCABULARY, "max_position_embeddings": POSITIONS} | changes)


def made(kind: str, config: Any, seed: int = 0) -> Any:
    """A network of transformers with random weights, in evaluation mode."""
    import transformers

    with torch.random.fork_rng(), quiet():
        torch.manual_seed(seed)
        return getattr(transformers, kind)(config).eval()


def saved(model: Any, folder: Path, **how: Any) -> Path:
    """The folder, with the model in it."""
    with quiet():
        model.save_pretrained(folder, **how)
    return folder


def gpt(folder: Path, seed: int = 0, **how: Any) -> Path:
    """A language model of two layers."""
    return saved(made("GPT2LMHeadModel", gpt_config(), seed), folder, **how)


def classifier(folder: Path, seed: int = 0, labels: int = 3) -> Path:
    """A BERT with a head."""
    return saved(made("BertForSequenceClassification", bert_config(num_labels=labels), seed), folder)


def with_tokenizer(folder: Path, words: list[str] = WORDS, **how: Any) -> Path:
    """The folder, with a tokenizer of whole words in it too."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    whole = PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="[UNK]", pad_token="[PAD]", **how)
    whole.save_pretrained(folder)
    return folder


def lora(base: Any, seed: int = 0, **how: Any) -> Any:
    """The base with a LoRA adapter of rank 2 whose both factors are random."""
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft calls what transformers has renamed
        torch.manual_seed(seed)
        chosen = {"r": 2, "target_modules": ["c_attn"], "fan_in_fan_out": True, "task_type": "CAUSAL_LM"}
        model = get_peft_model(base, LoraConfig(**chosen | how))
        for name, value in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(value)
    return model.eval()


def adapter(folder: Path, base: Any, seed: int = 0, **how: Any) -> Path:
    """The folder of an adapter alone."""
    with warnings.catch_warnings(), quiet():
        lora(base, seed, **how).save_pretrained(folder)
    return folder


def tokens(n: int = 3, length: int = 5) -> torch.Tensor:
    """Token ids (n, length)."""
    return torch.randint(0, VOCABULARY, (n, length), generator=torch.Generator().manual_seed(0))

"""How many tokens, and which, a language model takes: longer or other ones are refused before it is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from geomfeat.errors import BadInput

# Kinds of models whose positions are counted from after the padding token.
AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "esm", "data2vec-text")


@dataclass(frozen=True)
class TokenLimits:
    """Number of positions, and of entries of the vocabulary; None where there is no limit, or it is not known."""

    positions: int | None = None
    vocabulary: int | None = None

    @classmethod
    def of_config(cls, config: Any) -> TokenLimits:
        """Those of a config of transformers.

        >>> from types import SimpleNamespace
        >>> TokenLimits.of_config(SimpleNamespace(max_position_embeddings=12, vocab_size=50))
        TokenLimits(positions=12, vocabulary=50)
        """
        positions, vocabulary = (getattr(config, name, None) for name in ("max_position_embeddings", "vocab_size"))
        positions = positions if isinstance(positions, int) and positions > 0 else None
        if positions is not None and getattr(config, "model_type", "") in AFTER_PADDING:
            positions -= (getattr(config, "pad_token_id", None) or 0) + 1
        return cls(positions, vocabulary if isinstance(vocabulary, int) else None)

    @classmethod
    def of_model(cls, model: nn.Module) -> TokenLimits:
        """Those of a network: of its config, if it has one, with the size of its embedding of tokens."""
        found = cls.of_config(getattr(model, "config", None))
        embed = getattr(model, "get_input_embeddings", None)
        rows = getattr(embed() if found.vocabulary is not None and callable(embed) else None, "num_embeddings", None)
        return found if rows is None else cls(found.positions, rows)

    def require(self, length: int, largest: int, where: str, remedy: str) -> None:
        """BadInput, with both numbers, for a longest sequence or a largest id beyond the limits.

        Args:
            remedy: how sequences are cut, for the message.
        """
        if self.positions is not None and length > self.positions:
            raise BadInput(
                f"{where} holds a sequence of {length} tokens, and the model has {self.positions} positions: {remedy}"
            )
        if self.vocabulary is not None and largest >= self.vocabulary:
            raise BadInput(
                f"{where} holds the token id {largest}, and the model's vocabulary has {self.vocabulary} entries (0 to "
                f"{self.vocabulary - 1}): the tokenizer is of another model; give the one it was trained with"
            )


def require_tokens_fit(model: nn.Module, inputs: Any) -> None:
    """BadInput where a mapping of inputs holds token ids that the network does not take."""
    ids = inputs.get("input_ids") if isinstance(inputs, Mapping) else None
    if isinstance(ids, Tensor) and ids.ndim == 2 and ids.numel():
        limits = TokenLimits.of_model(model)
        limits.require(
            ids.shape[1], int(ids.max()), "the data", f"cut them with the data's option max_length={limits.positions}"
        )

"""Texts as a language model takes them: token ids padded to one length, with the mask of what is no padding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.models.sources.hugging_face import HuggingFace, quiet
from geomfeat.models.sources.saved_folders import CONFIG, TOKENIZER, has_tokenizer
from geomfeat.models.sources.token_limits import TokenLimits
from geomfeat.models.weights.checkpoints import what_went_wrong

# Tokenizers that know no limit say a number of this size.
NO_LIMIT = 10**6


def tokenized(
    texts: Sequence[str], folder: Path, max_length: int | None, where: str
) -> tuple[dict[str, Tensor], TokenLimits]:
    """(input_ids and attention_mask, (n, length) each; what the model of the folder takes).

    Args:
        folder: holds the tokenizer; where it also holds a config, sequences and ids are checked against it.
        max_length: longer texts are cut after so many tokens; None refuses those that are too long for the model.
        where: the data, for messages.

    Raises BadInput for a missing tokenizer, a text without tokens, and what the model does not take.
    """
    tokenizer = tokenizer_in(folder)
    limits = _limits(folder, tokenizer)
    if max_length is not None and limits.positions is not None and max_length > limits.positions:
        raise BadInput(f"{where}: max_length={max_length} is more than the {limits.positions} positions of the model")
    with quiet():
        ids = tokenizer(list(texts), truncation=max_length is not None, max_length=max_length)["input_ids"]
    padding = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
    return padded(ids, None, where, limits, padding), limits


def padded(
    ids: Sequence[Sequence[int]],
    masks: Sequence[Sequence[int]] | None,
    where: str,
    limits: TokenLimits = TokenLimits(),  # noqa: B008 - it is frozen
    padding: int = 0,
) -> dict[str, Tensor]:
    """Sequences of token ids in one tensor, padded on the right, with their mask; checked against the limits.

    >>> padded([[5, 6], [7]], None, "two texts")["attention_mask"].tolist()
    [[1, 1], [1, 0]]
    """
    empty = next((i for i, row in enumerate(ids) if not len(row)), None)
    if empty is not None:
        raise BadInput(f"{where}: sample {empty} has no tokens: remove it")
    length = max(map(len, ids))
    limits.require(length, max(map(max, ids)), where, f"cut them with the option max_length={limits.positions}")
    tokens, mask = torch.full((len(ids), length), padding), torch.zeros(len(ids), length, dtype=torch.long)
    for i, row in enumerate(ids):
        tokens[i, : len(row)] = torch.as_tensor(row)
        mask[i, : len(row)] = 1 if masks is None else torch.as_tensor(masks[i])
    return {"input_ids": tokens, "attention_mask": mask}


def tokenizer_in(folder: Path) -> Any:
    """The tokenizer that `save_pretrained` wrote into a folder; BadInput where there is none."""
    if not has_tokenizer(folder):
        kind = f"holds none of {', '.join(TOKENIZER[:3])}" if folder.is_dir() else "is no folder"
        raise BadInput(
            f"no tokenizer: {str(folder)!r} {kind}. Save it there by tokenizer.save_pretrained(FOLDER), or name the "
            "folder that has it with the data's option tokenizer=FOLDER"
        )
    with quiet():
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as cause:
            raise BadInput(
                f"the tokenizer in {str(folder)!r} cannot be read: {what_went_wrong(cause)}. Copy it again"
            ) from cause


def _limits(folder: Path, tokenizer: Any) -> TokenLimits:
    found = TokenLimits.of_config(HuggingFace(folder).config) if (folder / CONFIG).is_file() else TokenLimits()
    own = tokenizer.model_max_length
    known = [n for n in (found.positions, own if own < NO_LIMIT else None) if n is not None]
    return TokenLimits(min(known, default=None), found.vocabulary)

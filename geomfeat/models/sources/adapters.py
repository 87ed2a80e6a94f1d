"""Adapters of peft on top of the network that they were trained on, unmerged or merged into its weights.

What the start of an adapter is. At the start of a training the second factor of LoRA is zero, so the network computes
what the pretrained one does; its first factor is a random draw, which is not saved. So:

- `Adapted.fresh` draws an adapter anew, as peft does: outputs and features of the start are exact, and its tangent
  kernel is one draw of the right distribution.
- `Adapted.pretrained`, with `in_pretrained_weights`, is the pretrained network, and the adapter merged into its weights
  (W + s B A): exact at both ends, as function and as weights. It is located among all weights of the adapted layers, of
  which the adapter could move only some.
- The trained first factor with a second one of zero would be neither: the tangent kernel of such a start has already
  learned.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from geomfeat.errors import BadInput
from geomfeat.models.sources.base import Source
from geomfeat.models.sources.saved_folders import (
    ADAPTER_CONFIG,
    ADAPTER_SAFE,
    PREFIX,
    adapter_weights,
    content_files,
    has_tokenizer,
    is_adapter,
    read_json,
)
from geomfeat.models.sources.weight_checks import require_same
from geomfeat.models.weights.checkpoints import what_went_wrong
from geomfeat.models.weights.file_formats import read_weights


@dataclass(frozen=True)
class Adapted:
    """A base with an adapter, which is merged into the weights of the base or not. See `base.Source`."""

    base: Source
    folder: Path
    merge: bool = False

    @property
    def spec(self) -> str:
        return f"{self.base.spec} with adapter {self.folder}"

    @property
    def has_weights(self) -> bool:
        return True

    def load(self) -> nn.Module:
        return self.at(self.folder)

    def fresh(self) -> nn.Module:
        return _attached(self.base.load(), self.folder).eval()

    def at(self, weights: Path) -> nn.Module:
        adapter_weights(weights)
        model = _attached(self.base.load(), weights)
        _fill(model, weights)
        return (_merged(model, weights) if self.merge else model).eval()

    def start(self, weights: Path) -> nn.Module:
        if not is_adapter(weights):
            raise BadInput(
                f"initial {str(weights)!r} is no folder of an adapter: give the one saved before training, or "
                "'pretrained' for the base, without its adapter"
            )
        return self.at(weights)

    def pretrained(self) -> nn.Module:
        return self.base.load()

    def pretrained_files(self) -> list[Path]:
        return self.base.files()

    def in_pretrained_weights(self) -> Adapted:
        return replace(self, merge=True)

    @property
    def tokenizer(self) -> Path | None:
        return self.folder if has_tokenizer(self.folder) else self.base.tokenizer

    def files(self) -> list[Path]:
        return [*self.base.files(), *content_files(self.folder)]


def base_of(folder: Path) -> Path:
    """The folder of the model that an adapter was trained on; BadInput where it is not on this machine."""
    name = read_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    path = Path(name).expanduser() if isinstance(name, str) and name else None
    if path is None or not path.is_dir():
        named = f"its base, {name!r}, is no folder here" if name else "it names no base"
        raise BadInput(
            f"adapter {str(folder)!r} has no base: {named}. Give both, {PREFIX}BASE with the adapter (--adapter "
            f"{folder}, adapter=); nothing is downloaded"
        )
    return path


def _attached(base: nn.Module, folder: Path) -> Any:
    """The base with an adapter of this configuration, its parameters drawn as before a training."""
    try:
        from peft import PeftConfig, get_peft_model
    except ImportError as cause:
        raise BadInput(
            f"adapter {str(folder)!r} needs the package peft, which cannot be imported: pip install 'geomfeat[models]'"
        ) from cause
    if not (folder / ADAPTER_CONFIG).is_file():
        adapter_weights(folder)
    read_json(folder / ADAPTER_CONFIG)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of one library's calls of another
            return get_peft_model(base, PeftConfig.from_pretrained(str(folder)))  # type: ignore[arg-type]
    except Exception as cause:
        raise BadInput(
            f"adapter {str(folder)!r} does not fit the base {type(base).__name__}: {what_went_wrong(cause)}"
        ) from cause


def _fill(model: Any, folder: Path) -> None:
    """The trained parameters of an adapter, into a network that it is attached to."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    state = read_weights(folder / ADAPTER_SAFE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # By default peft asks the hub for the base's vocabulary, to see whether embeddings belong to the adapter.
        own = get_peft_model_state_dict(model, save_embedding_layers=False)
        own |= {name: t for name, t in model.state_dict().items() if name in state and name not in own}
        require_same(
            {name: tuple(t.shape) for name, t in state.items()}, {name: tuple(t.shape) for name, t in own.items()},
            f"adapter {str(folder)!r}", f"its {ADAPTER_CONFIG} on this base",
        )  # fmt: skip
        set_peft_model_state_dict(model, state)


def _merged(model: Any, folder: Path) -> nn.Module:
    if not hasattr(model, "merge_and_unload"):
        raise BadInput(
            f"adapter {str(folder)!r} ({type(model).__name__}) adds no weights that could be merged into its base, so "
            "it has no start among the pretrained weights: leave initial='pretrained' out"
        )
    try:
        return model.merge_and_unload()
    except Exception as cause:
        raise BadInput(f"adapter {str(folder)!r} cannot be merged: {what_went_wrong(cause)}") from cause

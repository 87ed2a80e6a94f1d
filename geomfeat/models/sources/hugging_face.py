"""Networks of transformers from a folder of `save_pretrained`: offline, from .safetensors, without code of the folder.

The class is the one that `architectures` in config.json names, so that heads are kept; the base model where it names
none. Of a folder of sentence-transformers it is the transformer in it.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from geomfeat.errors import BadInput, OutOfMemory
from geomfeat.memory import is_out_of_memory
from geomfeat.models.reinitialize import fresh as drawn
from geomfeat.models.sources.drawn_parts import mark_drawn
from geomfeat.models.sources.saved_folders import (
    CONFIG,
    PREFIX,
    SAFE,
    config_folder,
    content_files,
    has_tokenizer,
    read_json,
    safe_weights,
    shapes_in,
)
from geomfeat.models.sources.weight_checks import require_finite_weights, require_same
from geomfeat.models.weights.checkpoints import load_weights, what_went_wrong

_log = logging.getLogger(__name__)
SEED = 0  # of heads that a pretrained model does not have
SHOWN = 8  # names in a note


@dataclass(frozen=True)
class HuggingFace:
    """The model of a folder. See `geomfeat.models.sources.base.Source`."""

    path: Path
    weights: Path | None = None

    @property
    def spec(self) -> str:
        return f"{PREFIX}{self.path}"

    @cached_property
    def folder(self) -> Path:
        """The folder with config.json."""
        return config_folder(self.path)

    @property
    def has_weights(self) -> bool:
        return True

    def load(self) -> nn.Module:
        return _loaded(self.folder, self.config, self.kind) if self.weights is None else self.at(self.weights)

    def fresh(self) -> nn.Module:
        """The network of the config with weights that transformers draws as before a training from scratch."""
        with quiet():
            made = tried(lambda: self.kind(self.config), self.spec)
        dtype = precision_of(self.config)
        return (made.to(dtype) if isinstance(dtype, torch.dtype) else made).eval()

    def at(self, weights: Path) -> nn.Module:
        if any((weights / name).is_file() for name in SAFE):
            return _loaded(weights, self.config, self.kind)
        return load_weights(self.fresh(), weights).eval()

    def start(self, weights: Path) -> nn.Module:
        """The weights with which a fine-tuning began; a head that they lack is drawn, as fine-tuning does."""
        folder = weights if any((weights / name).is_file() for name in SAFE) else None
        if folder is None:
            return self.at(config_folder(weights)) if weights.is_dir() else self.at(weights)
        return drawn(lambda: _loaded(folder, self.config, self.kind, may_draw_head=True), SEED, 0)

    def pretrained(self) -> nn.Module:
        return self.start(self._pretrained_folder())

    def pretrained_files(self) -> list[Path]:
        return content_files(self._pretrained_folder())

    def _pretrained_folder(self) -> Path:
        base = read_json(self.folder / CONFIG).get("_name_or_path")
        path = Path(base).expanduser() if isinstance(base, str) and base else None
        if path is None or not path.is_dir() or path.resolve() == self.path.resolve():
            named = f" (it names {base!r}, which is no other folder here)" if base else ""
            raise BadInput(
                f"initial='pretrained': {self.folder / CONFIG} does not say from which folder {self.spec!r} was "
                f"fine-tuned{named}: give the folder of the pretrained model as initial, hf:FOLDER"
            )
        return config_folder(path)

    def in_pretrained_weights(self) -> HuggingFace:
        return self

    @property
    def tokenizer(self) -> Path | None:
        return next((p for p in (self.folder, self.path) if has_tokenizer(p)), self.folder)

    def files(self) -> list[Path]:
        return content_files(self.path)

    @cached_property
    def config(self) -> Any:
        """The config as transformers reads it; BadInput for one it does not know, or that brings its own code."""
        read_json(self.folder / CONFIG)
        with quiet():
            from transformers import AutoConfig

            return tried(
                lambda: AutoConfig.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False),
                f"{self.folder / CONFIG}",
            )

    @cached_property
    def kind(self) -> Any:
        """The class of the network: the one that the config names, or else the base model of its kind."""
        transformers = require_transformers()
        named = (getattr(self.config, "architectures", None) or [""])[0]
        found = getattr(transformers, named, None) if named else None
        if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
            return found
        if named:
            _log.warning("%s: transformers has no class %s: the model is taken without its head", self.spec, named)
        try:
            return transformers.MODEL_MAPPING[type(self.config)]
        except KeyError as cause:
            raise BadInput(
                f"{self.spec!r}: transformers has no network for the config {type(self.config).__name__}: build it in "
                "a file of yours and give FILE.py:factory"
            ) from cause


def require_transformers() -> Any:
    """The package; BadInput with the remedy where it is not installed."""
    try:
        import transformers
    except ImportError as cause:
        raise BadInput(
            "hf:FOLDER needs the package transformers, which cannot be imported: pip install 'geomfeat[models]'"
        ) from cause
    return transformers


@contextmanager
def quiet() -> Iterator[None]:
    """Within, transformers draws no progress bars and logs errors only: what matters is checked, and said, here."""
    require_transformers()
    from transformers.utils import logging as said

    level, bars = said.get_verbosity(), said.is_progress_bar_enabled()
    said.set_verbosity_error()
    said.disable_progress_bar()
    try:
        # Warnings here are of one library's calls of another.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        said.set_verbosity(level)
        if bars:
            said.enable_progress_bar()


def precision_of(config: Any) -> Any:
    """The precision that a config names, if any: `dtype`, or `torch_dtype` in transformers before 4.56."""
    return config.dtype if hasattr(config, "dtype") else getattr(config, "torch_dtype", None)


def _loaded(folder: Path, config: Any, kind: Any, *, may_draw_head: bool = False) -> nn.Module:
    """The weights of a folder in the network of a config, checked by name, shape and value."""
    files, where = safe_weights(folder), f"'{PREFIX}{folder}'"

    def read() -> Any:
        # Sizes that differ are not ignored: they are listed with all else that differs.
        return kind.from_pretrained(
            folder, config=config, local_files_only=True, use_safetensors=True, trust_remote_code=False,
            output_loading_info=True, ignore_mismatched_sizes=True, **as_stored,
        )  # fmt: skip

    # The default since transformers 5; older ones also draw weights before they read them.
    as_stored = {"dtype" if hasattr(config, "dtype") else "torch_dtype": "auto"}
    with quiet(), torch.random.fork_rng(devices=[]):
        model, info = tried(read, f"{PREFIX}{folder}")
    there, here = _differences(model, info, files)
    if may_draw_head:
        there, here = _without_head(model, there, here, where)
    elif not getattr(config, "architectures", None) or kind.__name__ not in config.architectures:
        there = {name: shape for name, shape in there.items() if name in here}  # the head of a class that is not known
    require_same(there, here, where, "its config")
    require_finite_weights(model, where)
    return model.eval()


def _differences(model: nn.Module, info: Mapping[str, Any], files: list[Path]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Name -> shape of the weights that do not agree: in the files, and in the network."""
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    saved = {name: shape for f in files if f.suffix == ".safetensors" for name, shape in shapes_in(f).items()}
    wrong = {name: (tuple(a), tuple(b)) for name, a, b in info["mismatched_keys"]}
    missing, more = set(info["missing_keys"]), set(info["unexpected_keys"])
    unsaved = {name for name, _ in model.named_buffers()} - own.keys()
    here = {name: wrong[name][1] if name in wrong else own[name] for name in own if name in wrong or name in missing}
    there = {name: pair[0] for name, pair in wrong.items()}
    there |= {name: saved.get(name, ()) for name in sorted(more - unsaved)}
    return there, here


def _without_head(
    model: nn.Module, there: dict[str, Any], here: dict[str, Any], where: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The differences within the body; what is drawn of the head is named in the log, and kept on the network."""
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    has_head = any(name.startswith(prefix) for name, _ in model.named_parameters())
    of_head = lambda name: (has_head and not name.startswith(prefix)) or ".pooler." in f".{name}"  # noqa: E731
    drawn_here = [name for name in here if of_head(name)]
    if drawn_here:
        mark_drawn(model, drawn_here)
        more = f" and {len(drawn_here) - SHOWN} more" if len(drawn_here) > SHOWN else ""
        _log.warning(
            "%s does not hold the head of the fine-tuned model: %s%s start from a fresh draw, not from those of the "
            "training", where, ", ".join(drawn_here[:SHOWN]), more,
        )  # fmt: skip
    body = lambda part: {name: shape for name, shape in part.items() if not of_head(name)}  # noqa: E731
    return body(there), body(here)


def tried(make: Any, spec: str) -> Any:
    """What a call of transformers gives; BadInput with its own words where it raises."""
    try:
        return make()
    except (Exception, SystemExit) as cause:
        if is_out_of_memory(cause):
            raise OutOfMemory(f"{spec!r} does not fit into memory: {what_went_wrong(cause)}") from cause
        hint = ""
        if "trust_remote_code" in str(cause):
            hint = ". Code of a model's folder is not run: build it in a file of yours and give FILE.py:factory"
        raise BadInput(f"{spec!r} cannot be loaded by transformers: {what_went_wrong(cause)}{hint}") from cause

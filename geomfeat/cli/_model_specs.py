"""The arguments of `geomfeat compare`: networks, recordings and matrices, and the layers of each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geomfeat.cli._networks import weights_sum
from geomfeat.cli._recording_spec import OPTIONS, dated, recording_of
from geomfeat.data.spec_options import PathWithOptions
from geomfeat.errors import BadInput
from geomfeat.models.sources import load_model
from geomfeat.models.sources.saved_folders import PREFIX, adapter_weights, has_tokenizer, is_adapter, path_of
from geomfeat.models.weights.file_formats import weights_files
from geomfeat.storage.atomic import file_sha256
from geomfeat.storage.npz_files import array_names

TRIALS = "recording:"


@dataclass(frozen=True)
class Word:
    """One MODEL argument.

    kind: "network" (spec, optional weights), "recording" (file of features), "trials" (recording:FILE) or "rdms" (file,
    keys).
    """

    name: str
    kind: str
    spec: str
    weights: Path | None = None
    keys: tuple[str, ...] = ()

    def dated(self) -> list[Any]:
        """Everything that determines the model, with the SHA-256 of its files."""
        if self.kind == "trials":
            return [self.name, self.kind, *dated(self.spec)]
        file = self.weights if self.kind == "network" else Path(self.spec)
        content = None if file is None else weights_sum(file, "MODEL") if self.kind == "network" else file_sha256(file)
        return [self.name, self.kind, self.spec, content, list(self.keys)]


def words(texts: Sequence[str]) -> list[Word]:
    """The models named by arguments like `NAME=pkg.module:factory@weights.safetensors` or `NAME=features.npz`.

    Raises BadInput for missing files, two models with one name, and no models.

    >>> [(w.name, w.kind, w.spec) for w in words(["a=net:make", "geomfeat.models.mlp:mlp"])]
    [('a', 'network', 'net:make'), ('mlp', 'network', 'geomfeat.models.mlp:mlp')]
    """
    found = [_word(text) for text in texts]
    names = [word.name for word in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(
            f"MODEL: two models are named {twice[0]!r}; give each a name, as in 'one={texts[names.index(twice[0])]}'"
        )
    return found


def _word(text: str) -> Word:
    name, separator, spec = text.partition("=")
    if not separator or "/" in name or ":" in name:
        name, spec = "", text
    if not spec:
        raise BadInput(f"MODEL {text!r} is empty: give NAME=pkg.module:factory@weights or NAME=features.npz")
    if spec.startswith(TRIALS):
        spec = spec.removeprefix(TRIALS)
        path = _there(str(PathWithOptions.of(spec, OPTIONS).path), text)
        return Word(name or path.stem, "trials", spec)
    npz = re.fullmatch(r"(.*\.npz)(?::(.+))?", spec)
    if npz:
        path = _there(npz[1], text)
        keys = tuple(key for key in (npz[2] or "").split(",") if key)
        return Word(name or path.stem, "rdms" if keys or not _has_index(path) else "recording", npz[1], keys=keys)
    # A folder of a model may have an @ in its name.
    whole = spec.startswith(PREFIX) and path_of(spec).is_dir()
    spec, _, weights = (spec, "", "") if whole else spec.partition("@")
    if ":" not in spec:
        raise BadInput(
            f"MODEL {text!r} is neither hf:FOLDER, pkg.module:factory[@weights], file.py:factory[@weights], "
            "recording:FILE nor FILE.npz"
        )
    path = _weights(weights, text) if weights else None
    own = path_of(spec).name if spec.startswith(PREFIX) else spec.rpartition(":")[2]
    return Word(name or (path.stem if path else own), "network", spec, path)


def _there(path: str, text: str) -> Path:
    if not Path(path).is_file():
        raise BadInput(f"MODEL {text!r}: no such file: {path!r}")
    return Path(path)


def _weights(path: str, text: str) -> Path:
    if not Path(path).exists():
        return _there(path, text)
    try:
        if is_adapter(Path(path)):
            adapter_weights(Path(path))
        else:
            weights_files(path)
    except BadInput as cause:
        raise BadInput(f"MODEL {text!r}: {cause}") from cause
    return Path(path)


def _has_index(path: Path) -> bool:
    """Whether `save_npz` wrote a file (or it is damaged); any other file holds dissimilarity matrices."""
    try:
        names = array_names(path)
    except BadInput:
        return True
    return "index" in names or not any(name.startswith("rdm_") for name in names)


def models_of(found: Iterable[Word], seed: int = 0) -> dict[str, Any]:
    """The models themselves, as `compare` takes them."""
    from geomfeat.activations import load_npz
    from geomfeat.geometry.rsa import stack_rdms
    from geomfeat.geometry.rsa.files import load_rdms

    models: dict[str, Any] = {}
    for word in found:
        if word.kind == "network":
            models[word.name] = load_model(word.spec, weights=word.weights)
        elif word.kind == "trials":
            models[word.name] = recording_of(word.spec, seed, "MODEL")
        elif word.kind == "recording":
            models[word.name] = load_npz(word.spec)
        else:
            models[word.name] = stack_rdms(list(load_rdms(word.spec, word.keys).values()))
    return models


def folder_of_inputs(found: Iterable[Word], data: str) -> Path | None:
    """The folder that says how the networks take their inputs, for `load_data(model=)`; None where none comes of one.

    Raises BadInput for texts with networks of several tokenizers, which would give each other's token ids.
    """
    from geomfeat.data.tokens import tokenizer_in
    from geomfeat.models.sources._load_model import source_of

    sources = {word.name: source_of(word.spec, weights=word.weights) for word in found if word.kind == "network"}
    folders = {name: source.tokenizer for name, source in sources.items() if source.tokenizer is not None}
    if not folders:
        return None
    (first, folder), *others = folders.items()
    if data.startswith(("text:", "hf-dataset:")) and has_tokenizer(folder):
        words = tokenizer_in(folder).get_vocab()
        odd = next((name for name, f in others if has_tokenizer(f) and tokenizer_in(f).get_vocab() != words), None)
        if odd is not None:
            raise BadInput(
                f"MODEL {first!r} and {odd!r} have different tokenizers, so one sequence of token ids does not fit "
                "both: in Python, extract the features of each from its own ids (load_data(model=), extract), and "
                "give compare these"
            )
    return folder


def brains_of(option: str) -> tuple[Path, tuple[str, ...]]:
    """(file, keys) of `--brain FILE.npz[:KEY,...]`; BadInput if the file does not exist."""
    path, _, keys = option.partition(".npz")
    file = Path(f"{path}.npz")
    if not file.is_file() or (keys and not keys.startswith(":")):
        raise BadInput(f"--brain {option!r}: no such file: {str(file)!r}; give FILE.npz or FILE.npz:KEY,KEY")
    return file, tuple(key for key in keys.removeprefix(":").split(",") if key)


def patterns_of(layers: Sequence[str] | None, names: Iterable[str]) -> Any:
    """Layer patterns of each model: PATTERN applies to all models, NAME=PATTERN to one.

    >>> patterns_of(["a=block", "re:fc=?"], ["a", "b"])
    {'a': ['block', 're:fc=?'], 'b': ['re:fc=?']}
    """
    if not layers:
        return "*"
    names = list(names)
    own: Mapping[str, list[str]] = {name: [] for name in names}
    for text in layers:
        name, separator, pattern = text.partition("=")
        for target in [name] if separator and name in own else names:
            own[target].append(pattern if separator and name in own else text)
    return {name: found or "*" for name, found in own.items()}

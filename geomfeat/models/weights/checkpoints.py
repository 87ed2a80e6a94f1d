"""Models from a SPEC and weights from files, without pickle.

A SPEC names a factory, a callable without arguments that returns an nn.Module: `pkg.module:factory` or
`path/to/file.py:factory`. For the files that weights are read from see `geomfeat.models.weights.file_formats`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput, OutOfMemory, near
from geomfeat.memory import is_out_of_memory
from geomfeat.models.weights.file_formats import INDEX, read_weights, weights_files
from geomfeat.models.weights.names import mismatch, missing_of, renamed, with_old_names, without_extras
from geomfeat.storage.owned_files import MADE_BY, MARK, as_path, make_folder, replace_file


def load_object(spec: str, what: str = "model") -> Any:
    """The attribute that `pkg.module:name` or `path/file.py:name` points at; BadInput when there is none.

    >>> load_object("geomfeat.models.mlp:mlp").__name__
    'mlp'
    """
    source, separator, name = spec.rpartition(":")
    if not separator or not source or not name:
        raise BadInput(f"{what}={spec!r} must look like 'pkg.module:factory' or 'path/file.py:factory'")
    module = _from_file(Path(source), what) if source.endswith(".py") else _imported(source, what)
    if not hasattr(module, name):
        public = [n for n in vars(module) if not n.startswith("_")]
        raise BadInput(f"{what}={spec!r}: {source} has no {name!r}; near: {near(name, public) or 'nothing'}")
    return getattr(module, name)


@contextmanager
def working_folder_on_path() -> Iterator[None]:
    """Within, modules of the working folder are found: a user's own lie there, but a console script does not look."""
    folder = os.getcwd()
    added = folder not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, folder)
    try:
        yield
    finally:
        if added:
            sys.path.remove(folder)


def _imported(source: str, what: str) -> Any:
    try:
        with working_folder_on_path():
            return importlib.import_module(source)
    except ModuleNotFoundError as cause:
        raise BadInput(
            f"{what}: no module {cause.name!r} while importing {source!r}: install it, run from its folder, "
            "or give the file as 'path/file.py:factory'"
        ) from cause
    except (Exception, SystemExit) as cause:
        raise BadInput(f"{what}: importing {source!r} failed: {what_went_wrong(cause)}") from cause


def _from_file(path: Path, what: str) -> Any:
    if not path.is_file():
        raise BadInput(f"{what}: no such file: {str(path)!r} (relative to {os.getcwd()!r})")
    name = f"geomfeat_user_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    # Registered while it runs, since dataclasses and annotations look their module up; its folder for its own imports.
    sys.modules[name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        # From its text, not by the stored bytecode: that is taken for current if a file was changed within a second and
        # has the same length, and a full disk leaves half of it.
        exec(compile(path.read_bytes(), str(path), "exec"), vars(module))
    except (Exception, SystemExit) as cause:
        sys.modules.pop(name, None)
        raise BadInput(f"{what}: running {str(path)!r} failed: {what_went_wrong(cause)}") from cause
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module


def called(factory: Callable[[], Any], spec: str, what: str) -> Any:
    """What a user's factory returns; BadInput with its error where it raises, ends the program or needs arguments.

    OutOfMemory where what it builds does not fit.
    """
    try:
        inspect.signature(factory).bind()
    except TypeError as cause:
        raise BadInput(f"{what}={spec!r} cannot be called without arguments: {cause}") from cause
    except ValueError:  # some functions written in C have no signature: the call decides
        pass
    try:
        return factory()
    except (Exception, SystemExit) as cause:
        if is_out_of_memory(cause):
            raise OutOfMemory(f"{what}={spec!r} does not fit into memory: {what_went_wrong(cause)}") from cause
        raise BadInput(f"{what}={spec!r} failed when it was called: {what_went_wrong(cause)}") from cause


def what_went_wrong(cause: BaseException) -> str:
    """An error of a user's code in one line.

    >>> what_went_wrong(ValueError("no\\nlicence")), what_went_wrong(SystemExit(0))
    ('ValueError: no licence', 'it ended the program by sys.exit(0)')
    """
    if isinstance(cause, SystemExit):
        return f"it ended the program by sys.exit({cause.code!r})"
    return f"{type(cause).__name__}: {' '.join(str(cause).split())[:300]}"


def load_factory(spec: str) -> Callable[[], nn.Module]:
    """The factory a SPEC names, wrapped to check that each call gives an nn.Module. See the module docstring.

    Raises BadInput for a missing module, file or attribute (with near names), for something that cannot be
    called, and, when called, for a factory that needs arguments or returns no module.

    >>> type(load_factory("geomfeat.models.mlp:mlp")()).__name__
    'Sequential'
    """
    factory = load_object(spec, "model")
    if not callable(factory):
        kind = type(factory).__name__
        raise BadInput(f"model={spec!r} is a {kind}, not a factory: name a function without arguments that builds it")
    if isinstance(factory, nn.Module):
        raise BadInput(f"model={spec!r} is a module, not a factory: wrap it as 'def make(): return Net(...)'")

    def make() -> nn.Module:
        model = called(factory, spec, "model")
        if not isinstance(model, nn.Module):
            raise BadInput(f"model={spec!r} returned {type(model).__name__}, not a torch.nn.Module")
        return model

    return make


def load_weights(model: nn.Module, path: str | Path, *, strict: bool = True) -> nn.Module:
    """Load the weights of a file or folder into `model` (in place) and return it.

    Prefixes of wrappers are removed from names: DataParallel, AveragedModel, torch.compile, in any order, and a prefix
    that all names have, as Lightning's "model.". A tensor that `model` shares between names may occur only once;
    counters that evaluation does not use (num_batches_tracked, n_averaged) may be missing or superfluous. strict=False
    leaves missing parameters unchanged and ignores superfluous ones. Lazy parameters take the shapes of the file.

    Raises CheckpointMismatch that lists missing, unexpected and wrongly shaped keys, with near names; BadInput as
    `read_weights`, and for a model on the meta device. The model is untouched when it raises.
    """
    model = getattr(model, "_orig_mod", model)
    if not isinstance(model, nn.Module):
        raise BadInput(
            f"model is a {type(model).__name__}, and load_weights takes the model first: load_weights(model, path)"
        )
    own = model.state_dict()
    state = read_weights(path, own.keys())
    empty = [name for name, value in own.items() if value.is_meta]
    if empty:
        raise BadInput(
            f"the model's {empty[0]!r} is on the meta device, without memory: call model.to_empty(device='cpu') first"
        )
    state = _with_shared(own, with_old_names(renamed(state, own, path), own))
    state = without_extras(state, model, own)
    missing = missing_of(state, own)
    unexpected = [k for k in state if k not in own]
    wrong = [
        f"{k} {_kind(state[k])} in the file, {_kind(own[k])} in the model"
        for k in own
        if k in state and _differ(state[k], own[k])
    ]
    if wrong or (strict and (missing or unexpected)) or not state.keys() & own.keys():
        raise mismatch(path, missing, unexpected, wrong)
    model.load_state_dict(state, strict=False)
    return model


def _differ(there: Tensor, here: Tensor) -> bool:
    # A lazy parameter has no shape yet: torch gives it that of the tensor it is loaded from.
    if nn.parameter.is_lazy(here):
        return False
    return there.shape != here.shape or (there.is_complex() and not here.is_complex())


def _kind(t: Tensor) -> str:
    """Shape of a tensor, and whether it is complex: copying to a real one would lose the imaginary part."""
    return f"{'complex ' if t.is_complex() else ''}{tuple(t.shape)}"


def _place(t: Tensor) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    return t.data_ptr(), tuple(t.shape), tuple(t.stride())


def _with_shared(own: Mapping[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state` with the other names of tensors that the model shares and the file holds once."""
    held = {k: t for k, t in own.items() if not nn.parameter.is_lazy(t) and t.numel()}
    by_place = {_place(t): state[k] for k, t in held.items() if k in state}
    extra = {k: by_place[_place(t)] for k, t in held.items() if k not in state and _place(t) in by_place}
    return state | extra


def save_weights(model: nn.Module, path: str | Path) -> Path:
    """Write a model's state dict as .safetensors, atomically; a tensor shared between names is written once.

    Raises BadInput for another suffix, OutputExists for a file that geomfeat did not write, WriteFailed for a full
    disk.
    """
    path = as_path(path)
    if path.suffix != ".safetensors":
        raise BadInput(f"weights are saved as .safetensors, got {str(path)!r}")
    content = weights_content(model)
    make_folder(path.parent)
    replace_file(path, lambda draft: _on_disk(draft, content))
    return path


def _on_disk(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def weights_content(model: nn.Module) -> bytes:
    """What a .safetensors file of a model's state dict holds; a tensor shared between names comes once."""
    model = getattr(model, "_orig_mod", model)
    once: dict[Any, str] = {}
    tensors: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        if value.numel() and once.setdefault(_place(value), name) != name:
            continue
        tensors[name] = value
    return tensors_content(tensors)


def tensors_content(tensors: Mapping[str, Tensor], notes: Mapping[str, str] | None = None) -> bytes:
    """What a .safetensors file of these tensors holds, with notes by name in its header."""
    from safetensors.torch import save

    # Copies, since safetensors refuses views into shared memory.
    plain = {k: t.detach().cpu().clone(memory_format=torch.contiguous_format) for k, t in tensors.items()}
    return _marked(save(plain, metadata={"format": "pt"}), notes or {})


def _marked(content: bytes, notes: Mapping[str, str]) -> bytes:
    """The content with the mark of geomfeat in its header; safetensors itself writes several entries in any order."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] |= {MADE_BY: MARK, **notes}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def weights_sha256(path: str | Path) -> str:
    """Hex sha256 of a file's bytes; of a folder of weights, or an index, that of the sums of its files."""
    files = [Path(path)] if Path(path).is_file() and not str(path).endswith(INDEX) else weights_files(path)
    sums = []
    for name in files:
        with name.open("rb") as file:
            sums.append(hashlib.file_digest(file, "sha256").hexdigest())
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()

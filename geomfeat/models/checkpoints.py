"""Models from a SPEC and weights from files, without pickle.

A SPEC names a factory, a callable without arguments that returns an nn.Module: `pkg.module:factory` or
`path/to/file.py:factory`. Weights are `.safetensors`, or `.pt`/`.pth` read with `weights_only=True`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.errors import BadInput, CheckpointMismatch, OutOfMemory, near
from geomfeat.memory import is_out_of_memory

PREFIXES = ("_orig_mod.", "module.")  # of torch.compile and DataParallel
SHOWN = 8  # keys listed in a mismatch
SUFFIXES = (".safetensors", ".pt", ".pth")


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


def _imported(source: str, what: str) -> Any:
    # The working folder is where a user's own packages lie, but a console script does not look there.
    added = os.getcwd() not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(source)
    except ModuleNotFoundError as cause:
        raise BadInput(
            f"{what}: no module {cause.name!r} while importing {source!r}: install it, run from its folder, "
            "or give the file as 'path/file.py:factory'"
        ) from cause
    except (Exception, SystemExit) as cause:
        raise BadInput(f"{what}: importing {source!r} failed: {what_went_wrong(cause)}") from cause
    finally:
        if added:
            sys.path.remove(os.getcwd())


def _from_file(path: Path, what: str) -> Any:
    if not path.is_file():
        raise BadInput(f"{what}: there is no file {str(path)!r} (looked from {os.getcwd()!r})")
    name = f"geomfeat_user_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Registered while it runs, since dataclasses and annotations look their module up; its folder for its own imports.
    sys.modules[name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
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
    except ValueError:  # some functions written in C tell no signature: the call decides
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

    Raises BadInput for a module, file or attribute that is not there (with near names), for something that cannot be
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


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Tensors by name from a .safetensors, .pt or .pth file, on the CPU.

    Raises BadInput for a file that is missing, truncated, corrupt, of another kind, without tensors, or with NaN.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"there is no weights file {str(path)!r}")
    if path.suffix not in SUFFIXES:
        raise BadInput(f"weights {str(path)!r} must be one of {', '.join(SUFFIXES)}: convert with save_weights")
    try:
        state = _read(path)
    except Exception as cause:
        first = (str(cause).splitlines() or [""])[0][:200]
        raise BadInput(
            f"cannot read weights {str(path)!r} ({path.stat().st_size} bytes; {type(cause).__name__}: {first}): "
            "the file is truncated or corrupt, or holds more than tensors; copy it again, or save the state dict alone"
        ) from cause
    for name, value in state.items():
        if value.layout is not torch.strided or value.is_meta or value.is_quantized:
            kind = "without values (on the meta device)" if value.is_meta else "sparse or quantised"
            raise BadInput(f"tensor {name!r} in {str(path)!r} is {kind}: save plain tensors")
        bad = 0 if not value.is_floating_point() else int((~torch.isfinite(value)).sum())
        if bad:
            raise BadInput(
                f"tensor {name!r} in {str(path)!r} holds {bad} NaN or infinite of {value.numel()} values: "
                "the file is damaged or training diverged; use an earlier checkpoint"
            )
    return state


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on the protocol of a file that is refused, or read, in any case
        state = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping):
        raise ValueError(f"it holds a {type(state).__name__}, not a state dict")
    tensors = {str(k): v.detach() for k, v in state.items() if isinstance(v, Tensor)}
    if not tensors:
        raise ValueError("it holds no tensors")
    return tensors


def load_weights(model: nn.Module, path: str | Path, *, strict: bool = True) -> nn.Module:
    """Load a file's weights into `model` (in place) and return it.

    Prefixes that torch.compile and DataParallel put before every key are taken off. A tensor that `model` shares
    between names need be there only once. strict=False leaves what is missing as it is, and ignores what is too much.

    Raises CheckpointMismatch that lists missing, unexpected and wrongly shaped keys; BadInput as `read_weights`.
    The model is untouched when it raises.
    """
    model = getattr(model, "_orig_mod", model)
    own, state = model.state_dict(), read_weights(path)
    for prefix in PREFIXES:
        if not state.keys() & own.keys() and all(k.startswith(prefix) for k in state):
            state = {k.removeprefix(prefix): v for k, v in state.items()}
    state = _with_shared(own, state)
    missing = [k for k in own if k not in state]
    unexpected = [k for k in state if k not in own]
    shaped = [
        f"{k} {tuple(state[k].shape)} in the file, {tuple(own[k].shape)} in the model"
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    if shaped or (strict and (missing or unexpected)) or not state.keys() & own.keys():
        parts = [("missing", missing), ("unexpected", unexpected), ("wrongly shaped", shaped)]
        raise CheckpointMismatch(
            f"{str(path)!r} does not fit the model: " + "; ".join(_listed(*part) for part in parts if part[1])
        )
    model.load_state_dict(state, strict=False)
    return model


def _listed(kind: str, keys: list[str]) -> str:
    more = f", and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return f"{len(keys)} {kind}: {', '.join(keys[:SHOWN])}{more}"


def _place(t: Tensor) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    return t.data_ptr(), tuple(t.shape), tuple(t.stride())


def _with_shared(own: Mapping[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state` with the other names of tensors that the model shares and the file holds once."""
    by_place = {_place(t): state[k] for k, t in own.items() if k in state and t.numel()}
    extra = {k: by_place[_place(t)] for k, t in own.items() if k not in state and t.numel() and _place(t) in by_place}
    return state | extra


def save_weights(model: nn.Module, path: str | Path) -> Path:
    """Write a model's state dict as .safetensors, atomically; a tensor shared between names is written once.

    Raises BadInput for another suffix.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise BadInput(f"weights are saved as .safetensors, got {str(path)!r}")
    content = weights_content(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def weights_content(model: nn.Module) -> bytes:
    """What a .safetensors file of a model's state dict holds; a tensor shared between names comes once."""
    from safetensors.torch import save

    model = getattr(model, "_orig_mod", model)
    once: dict[Any, str] = {}
    tensors: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        if value.numel() and once.setdefault(_place(value), name) != name:
            continue
        # A copy, since safetensors refuses views into shared memory.
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    return save(tensors, metadata={"format": "pt"})


def weights_sha256(path: str | Path) -> str:
    """Hex sha256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

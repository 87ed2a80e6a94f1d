"""Weights of a saved folder that stay on disk: the network without them, and its tensors one by one from the files.

The network is built by its class. Every buffer is real: tables that a network computes for itself and does not save,
such as the frequencies of rotary positions, are those of the network in memory. Every parameter is one NaN, expanded to
its shape: it takes no memory, and whatever is computed with it shows that its weights were not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from geomfeat.errors import BadInput, CheckpointMismatch
from geomfeat.models.sources.hugging_face import HuggingFace, precision_of, quiet, tried
from geomfeat.models.sources.saved_folders import PREFIX, safe_weights, shapes_in
from geomfeat.models.sources.weight_checks import require_same

IN_MEMORY = "load both with load_model('hf:FOLDER') and give these modules, which holds both in memory"


@dataclass(frozen=True, eq=False)
class LazyWeights:
    """The weights of a folder of `save_pretrained`, for the network that its config describes.

    Raises BadInput for files that are missing or cut short, CheckpointMismatch for names or shapes that are not those
    of the network.
    """

    source: HuggingFace

    @property
    def where(self) -> str:
        """The folder, for messages."""
        return f"'{PREFIX}{self.source.path}'"

    @cached_property
    def dtype(self) -> torch.dtype | None:
        """The precision that the config names; None where it names none, and tensors are taken as they are stored.

        They also are where the class keeps some of them in another precision than the rest.
        """
        found = precision_of(self.source.config)
        kept = [getattr(self.source.kind, f"_keep_in_fp32_modules{strict}", None) for strict in ("", "_strict")]
        return found if isinstance(found, torch.dtype) and not any(kept) else None

    @cached_property
    def network(self) -> nn.Module:
        """The network, in evaluation mode: parameters of NaN, without memory, and buffers with those of its class."""
        with quiet(), torch.random.fork_rng(devices=[]), _default(self.dtype), _on_meta():
            made = tried(lambda: self.source.kind(self.source.config), self.source.spec)
        _poison(made)
        with quiet():
            made.tie_weights()
        return made.eval()

    @cached_property
    def _files(self) -> dict[str, tuple[Path, tuple[int, ...]]]:
        """Name in the files -> file, and shape."""
        files = [file for file in safe_weights(self.source.folder) if file.suffix == ".safetensors"]
        return {name: (file, shape) for file in files for name, shape in shapes_in(file).items()}

    @cached_property
    def stored(self) -> dict[str, str]:
        """Name in the network -> name in the files, of every parameter and every buffer that is saved."""
        net, there = self.network, self._files
        own: dict[str, Tensor] = dict(net.named_parameters(remove_duplicate=False))
        own |= {name: value for name, value in net.state_dict().items() if name not in own}
        names: dict[int, list[str]] = {}
        for name, value in own.items():
            names.setdefault(id(value), []).append(name)
        prefix = f"{getattr(net, 'base_model_prefix', '')}."
        found, used = dict[str, str](), set[str]()
        for name, value in own.items():
            # A tied weight is saved under one of its names; a model without its head, without the prefix of the body.
            forms = [f for n in (name, *names[id(value)]) for f in (n, prefix + n, n.removeprefix(prefix))]
            used.update(forms)
            held = next((form for form in forms if form in there), None)
            if held is not None:
                found[name] = held
        left = {name: shape for name, (_, shape) in there.items() if name not in used and not self._ignored(name)}
        lacking = {name: tuple(v.shape) for name, v in own.items() if name not in found}
        sizes = {n: (there[held][1], tuple(own[n].shape)) for n, held in found.items()}
        wrong = {name: pair for name, pair in sizes.items() if pair[0] != pair[1]}
        try:
            require_same(
                left | {name: pair[0] for name, pair in wrong.items()},
                lacking | {name: pair[1] for name, pair in wrong.items()}, self.where, "its config",
            )  # fmt: skip
        except CheckpointMismatch as cause:
            raise CheckpointMismatch(f"{cause}. If transformers renames what this model saved, {IN_MEMORY}") from cause
        return found

    def _ignored(self, name: str) -> bool:
        """Whether the class of the network says that it saves such a tensor and does not read it."""
        patterns = getattr(self.network, "_keys_to_ignore_on_load_unexpected", None) or ()
        return any(re.search(pattern, name) for pattern in patterns)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every floating parameter, a tied one once."""
        stored, own = self.stored, self.network.named_parameters()
        return {name: tuple(p.shape) for name, p in own if name in stored and p.is_floating_point()}

    def read(self, names: Iterable[str], device: Any = "cpu") -> dict[str, Tensor]:
        """Tensors by their names in the network, as stored; a tied one is read once, and no others stay in memory."""
        from safetensors import safe_open

        held = {name: self.stored[name] for name in names}
        by_file: dict[Path, list[str]] = {}
        for inside in dict.fromkeys(held.values()):
            by_file.setdefault(self._files[inside][0], []).append(inside)
        found = dict[str, Tensor]()
        for file, inside in by_file.items():
            # Opened anew each time: an open file keeps all that was read of it in memory.
            with safe_open(file, framework="pt") as opened:
                found |= {name: opened.get_tensor(name).to(device) for name in inside}
        return {name: found[inside] for name, inside in held.items()}


def lazy_weights(source: Any, argument: str) -> LazyWeights:
    """The weights of a source on disk; BadInput for a source that is no folder with all its weights."""
    if not isinstance(source, HuggingFace) or source.weights is not None:
        raise BadInput(
            f"{argument} is {source.spec!r}, of which weights cannot be read one by one: give hf:FOLDER, a folder of "
            f"save_pretrained; else {IN_MEMORY}"
        )
    return LazyWeights(source)


@contextmanager
def _on_meta() -> Iterator[None]:
    """Within, parameters lose their memory as soon as a module takes them, before anything is written into it."""

    def drop(_module: nn.Module, _name: str, parameter: Any) -> Any:
        # Integer parameters of packed weights cannot require gradients either.
        return None if parameter is None else nn.Parameter(parameter.to("meta"), requires_grad=False)

    hook = register_module_parameter_registration_hook(drop)
    try:
        yield
    finally:
        hook.remove()


def _poison(network: nn.Module) -> None:
    """NaN without memory in the place of parameters on the meta device."""
    made: dict[int, nn.Parameter] = {}
    for module in network.modules():
        for name, empty in module._parameters.items():
            if empty is None:
                continue
            if not empty.is_floating_point():
                raise BadInput(f"{type(network).__name__} has packed weights ({name}: {empty.dtype}): {IN_MEMORY}")
            if id(empty) not in made:
                nan = torch.full((), torch.nan, dtype=empty.dtype).expand(empty.shape)
                made[id(empty)] = nn.Parameter(nan, requires_grad=False)
            module._parameters[name] = made[id(empty)]


@contextmanager
def _default(dtype: torch.dtype | None) -> Iterator[None]:
    """Within, new tensors have this precision, as those of a network that is loaded in it."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(before if dtype is None else dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def in_precision(tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Floating tensors in this precision, others as they are.

    >>> in_precision({"w": torch.ones(1), "i": torch.tensor([1])}, torch.bfloat16)["w"].dtype
    torch.bfloat16
    """
    return {name: t.to(dtype) if dtype is not None and t.is_floating_point() else t for name, t in tensors.items()}

"""Names in a weights file and in a model: how they are made to agree where a wrapper has added to them."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from geomfeat.errors import CheckpointMismatch, near

logger = logging.getLogger(__name__)
# What wrappers put before or among names: DataParallel and AveragedModel, torch.compile, FSDP, checkpointed blocks.
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
# Counters that evaluation does not use: torch fills in the first by itself; the second is of AveragedModel.
COUNTERS = ("num_batches_tracked", "n_averaged")
# Beginnings that say what a part of a training program is, the trained network first.
NETWORKS = ("model.", "net.", "network.", "module.", "backbone.", "encoder.")
AVERAGED = re.compile(r"(^|[._])(ema|teacher|target|momentum|averaged|shadow)([._]|$)", re.IGNORECASE)
# weight_norm before it was a parametrization: the length and direction of a weight.
_PARAMETRIZED = re.compile(r"(.*?)parametrizations\.(\w+)\.original([01])")
SHOWN = 8  # names listed in a mismatch


def renamed(state: Mapping[str, Tensor], own: Iterable[str], path: object) -> dict[str, Tensor]:
    """The state under the model's names, as far as that can be known; unchanged where nothing is gained.

    In this order: as it is; without the segments of wrappers, anywhere in a name; without (or with) one beginning that
    all names have in common with the model's. What has another beginning in the file, such as a loss's weights, is
    left out, with a note in the log.

    Raises CheckpointMismatch if two beginnings fit equally well.
    """
    own = list(own)
    needed = [name for name in own if not _is_counter(name)]
    found = dict(state)
    if covers(found, needed):
        return found
    bare = {_bare(name): value for name, value in state.items()}
    own_bare = {_bare(name): name for name in own}
    if len(bare) < len(state) or len(own_bare) < len(own):
        bare, own_bare = found, {name: name for name in own}
    asked = [_bare(name) if len(own_bare) and name not in own_bare else name for name in needed]
    if covers(bare, asked):
        return {own_bare.get(name, name): value for name, value in bare.items()}
    beginning = _beginning(bare, asked, path)
    if beginning is not None:
        beside = [name for name in bare if not name.startswith(beginning)]
        if beside:
            logger.warning("weights %s: %r is taken, and %s left out", path, beginning, _listed(beside))
        inner = {name.removeprefix(beginning): v for name, v in bare.items() if name.startswith(beginning)}
        return {own_bare.get(name, name): value for name, value in inner.items()}
    added = _beginning(dict.fromkeys(asked), [name for name in bare if not _is_counter(name)], path)
    if added is not None:
        return {own_bare.get(added + name, added + name): value for name, value in bare.items()}
    return found


def covers(state: Mapping[str, object], names: Iterable[str]) -> bool:
    """Whether every name is there."""
    names = list(names)
    return bool(names) and all(name in state for name in names)


def fits(state: Iterable[str], own: Iterable[str]) -> bool:
    """Whether every weight of a model is among these names, whatever wrappers add to them.

    >>> fits(["epoch", "net.module.fc.weight"], ["fc.weight"]), fits(["fc.weight"], ["head.weight"])
    (True, False)
    """
    names = {_bare(name) for name in state}
    needed = [_bare(name) for name in own if not _is_counter(name)]
    if not needed:
        return False
    last = max(needed, key=len)
    starts = [name.removesuffix(last) for name in names if name == last or name.endswith("." + last)]
    return any(all(start + name in names for name in needed) for start in starts)


def _beginning(names: Mapping[str, object], inner: list[str], path: object) -> str | None:
    """The beginning with which all of `inner` are among the names; None where there is none."""
    if not inner:
        return None
    last = max(inner, key=len)
    found = [name.removesuffix(last) for name in names if name.endswith("." + last)]
    fits = [start for start in found if all(start + name in names for name in inner)]
    if len(fits) > 1:
        trained = [start for start in fits if not AVERAGED.search(start)] or fits
        known = [start for start in NETWORKS if start in trained]
        chosen = trained if len(trained) == 1 else known
        if not chosen:
            raise CheckpointMismatch(
                f"{str(path)!r} holds several networks that fit the model: {', '.join(fits)}; save the one that is "
                "meant"
            )
        logger.warning("weights %s: %r is taken; %s fit too", path, chosen[0], ", ".join(set(fits) - {chosen[0]}))
        return chosen[0]
    return fits[0] if fits else None


def with_old_names(state: Mapping[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    """The state with the old weight_norm's `weight_g` and `weight_v` under the names of the parametrization."""
    found = dict(state)
    for name in own:
        new = _PARAMETRIZED.fullmatch(name)
        if new and name not in found:
            old = f"{new[1]}{new[2]}_{'gv'[int(new[3])]}"
            if old in found:
                found[name] = found.pop(old)
    return found


def without_extras(state: Mapping[str, Tensor], model: nn.Module, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state without what is no weight of the model by its very kind.

    These are an averaged model's counter, and buffers that the model has but does not save.
    """
    unsaved = {name for name, _ in model.named_buffers()} - own.keys()
    return {k: v for k, v in state.items() if k in own or not (_is_counter(k) or k in unsaved)}


def missing_of(state: Mapping[str, Tensor], own: Iterable[str]) -> list[str]:
    """The model's names that the state lacks, but for counters that evaluation does not use."""
    return [name for name in own if name not in state and not _is_counter(name)]


def mismatch(path: object, missing: list[str], unexpected: list[str], wrong: list[str]) -> CheckpointMismatch:
    """The error that lists what does not fit, with the file's names that look like the first that is missing."""
    parts = [("missing", missing), ("unexpected", unexpected), ("wrongly shaped", wrong)]
    message = "; ".join(f"{len(names)} {kind}: {_listed(names)}" for kind, names in parts if names)
    if missing and unexpected:
        message += f"; near {missing[0]!r} in the file: {near(missing[0], unexpected)}"
    return CheckpointMismatch(f"{str(path)!r} does not fit the model: {message}")


def _listed(names: list[str]) -> str:
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _bare(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _is_counter(name: str) -> bool:
    return name.rpartition(".")[2] in COUNTERS

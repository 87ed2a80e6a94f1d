"""What a loaded start holds that its files lack: tensors that were drawn in their place, kept on the network."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

_ATTRIBUTE = "_geomfeat_drawn"


def mark_drawn(model: nn.Module, names: Sequence[str]) -> None:
    """Keep the names of tensors that were drawn; copies of the network keep them too."""
    setattr(model, _ATTRIBUTE, tuple(names))


def drawn_parts(model: nn.Module) -> tuple[str, ...]:
    """Names of the tensors that were drawn, since the files that the network was loaded from lack them.

    >>> net = nn.Linear(2, 1)
    >>> mark_drawn(net, ["bias"])
    >>> drawn_parts(net), drawn_parts(nn.Linear(2, 1))
    (('bias',), ())
    """
    return getattr(model, _ATTRIBUTE, ())

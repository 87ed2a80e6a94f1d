"""The reference architectures by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from geomfeat.errors import BadInput, near
from geomfeat.models.cnn import cnn
from geomfeat.models.linear import linear
from geomfeat.models.mlp import mlp
from geomfeat.models.recurrent import gru_loop, lstm, rate_rnn
from geomfeat.models.residual import residual
from geomfeat.models.transformer import transformer
from geomfeat.models.vgg import vgg

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    f.__name__: f for f in (mlp, cnn, vgg, residual, transformer, lstm, gru_loop, rate_rnn, linear)
}


def build(name: str, **options: Any) -> nn.Module:
    """A reference architecture by name, with its keyword options. Without options it takes the digits.

    Raises BadInput, with near names, for an unknown name or option.

    >>> sum(p.numel() for p in build("mlp", hidden=(8,)).parameters())
    610
    """
    if name not in ARCHITECTURES:
        raise BadInput(f"no architecture {name!r}; near: {near(name, ARCHITECTURES)}. All: {', '.join(ARCHITECTURES)}")
    known = inspect.signature(ARCHITECTURES[name]).parameters
    for option in options:
        if option not in known:
            raise BadInput(f"{name} has no option {option!r}; near: {near(option, known)}. All: {', '.join(known)}")
    return ARCHITECTURES[name](**options)

"""Own and inherited drift of a Sequential, from the definition: the layers before and after are run by hand."""

from __future__ import annotations

from torch import Tensor, nn


def drift(before: nn.Sequential, after: nn.Sequential, index: int, x: Tensor) -> dict[str, float]:
    """own, inherited, interaction and total drift of layer `index`."""
    given0, given1 = x, x
    for i in range(index):
        given0, given1 = before[i](given0.clone()), after[i](given1.clone())
    y00, y10 = before[index](given0.clone()), after[index](given0.clone())
    y01, y11 = before[index](given1.clone()), after[index](given1.clone())
    parts = {"own": y10 - y00, "inherited": y01 - y00, "interaction": y11 - y10 - y01 + y00, "total": y11 - y00}
    return {k: float((v.double().square().sum() / y00.double().square().sum()) ** 0.5) for k, v in parts.items()}

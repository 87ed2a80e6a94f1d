"""The numbers of a capacity without each part of the data, with the influence of each draw, for paired differences."""

import torch
from torch import Tensor

from geomfeat.geometry.manifolds.result import Capacity
from geomfeat.numerics import WORKING
from geomfeat.statistics.group_errors import LeftOut


def left_out_of(found: Capacity) -> dict[str | None, LeftOut]:
    """Number -> its values without each group or part of the trials; empty where these were not taken.

    Draws pair where their influence is known (capacity, its faces, and what is a mean over draws); of the other numbers
    the variances over draws add up, which is too much rather than too little.
    """
    source = next((one for one in found.resampled if one.source != "units"), None)
    if source is None:
        return {}
    known = _influences(found)
    strata = None if found.strata is None else found.strata.cpu()
    out: dict[str | None, LeftOut] = {}
    for name, values in source.values.items():
        if name in known:
            out[name] = LeftOut(values.cpu(), source.sizes, known[name], strata)
        elif hasattr(found, f"{name}_se"):
            over_data = sum(one.variance(name) for one in found.resampled)
            rest = max(getattr(found, f"{name}_se") ** 2 - over_data, 0.0)
            out[name] = LeftOut(values.cpu(), source.sizes, draws_variance=rest)
    return out


def _influences(found: Capacity) -> dict[str, Tensor]:
    sure = found.certified.cpu()
    known = {name: on.detach().cpu() for name, on in found.influences.items()}
    for name, of_draw in (("capacity", found.norms2), ("capacity_faces", found.faces)):
        values = of_draw.detach().cpu().to(WORKING)
        mean, alpha = values[sure].mean(), getattr(found, name)
        known[name] = torch.where(sure, alpha * (1 - values / mean), 0.0) * (len(sure) / int(sure.sum()))
    return known

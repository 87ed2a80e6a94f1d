"""What models predict for data: an RDM of each, of the conditions of the data."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from geomfeat.errors import BadInput
from geomfeat.geometry.rsa.dissimilarity import rdm
from geomfeat.geometry.rsa.rdms import RDMs, stack_rdms


def predictions_of(models: RDMs | Mapping[str, Any], data: RDMs, dissimilarity: str) -> RDMs:
    """One RDM of each model, of the conditions of the data; BadInput for models of others."""
    if isinstance(models, RDMs):
        return models
    parts = []
    for name, model in models.items():
        found = model
        if not isinstance(model, RDMs):
            found = rdm(model, dissimilarity=dissimilarity)
            if found.n_conditions != data.n_conditions:
                raise BadInput(
                    f"model {name!r} has {found.n_conditions} rows for {data.n_conditions} conditions of the data: "
                    "give one row a condition, in the order of data.conditions"
                )
            found = replace(found, conditions=data.conditions)
        if found.n_rdms != 1:
            raise BadInput(f"model {name!r} has {found.n_rdms} RDMs: give each its own name, see select()")
        if found.conditions != data.conditions:
            raise BadInput(f"model {name!r} has other conditions than the data, or another order: use take(conditions)")
        parts.append(replace(found, dissimilarity="", vectors=found.vectors.to(data.vectors.device)))
    return stack_rdms(parts, list(map(str, models)))

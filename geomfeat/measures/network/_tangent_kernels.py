"""The tangent kernels of both snapshots, computed once for the three diagnostics that compare them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from geomfeat.errors import BadInput, OutOfMemory
from geomfeat.measures.network._probe_samples import WORK, attempted, noted, strided, trained_parameters
from geomfeat.models.functional import Functional
from geomfeat.models.nested_inputs import n_samples
from geomfeat.numerics import WORKING, stream
from geomfeat.snapshots import SnapshotPair
from geomfeat.tangent import JacobianRows, ntk_by_parameter_group
from geomfeat.types import Estimate, Kernel

# More outputs are randomly projected onto this many; networks too heavy for it get fewer, see `_sizes`.
OUTPUTS = 16


@dataclass(frozen=True, eq=False)
class NtkPair:
    """Traced tangent kernels before and after, by parameter group and ("") for the whole network."""

    before: dict[str, Tensor]
    after: dict[str, Tensor]
    note: str


def ntk_pair(pair: SnapshotPair, probes: int) -> NtkPair:
    """The kernels of a pair, remembered on the pair itself (as its own cached properties are)."""
    memory = pair.__dict__.setdefault("_ntk_pairs", {})
    if probes not in memory:
        memory[probes] = _compute(pair, probes)
    return memory[probes]


def compared(
    pair: SnapshotPair, probes: int, quantity: str, compare: Callable[[Kernel, Kernel], Estimate]
) -> dict[str, dict[str, Estimate]]:
    """{layer: {quantity: compare(trained kernel, initial kernel)}}; one failed row when the kernels cannot be had."""
    try:
        both = ntk_pair(pair, probes)
    except (BadInput, OutOfMemory) as error:
        return {"": {quantity: Estimate.failed(str(error))}}

    def row(layer: str) -> Estimate:
        return compare(Kernel(both.after[layer]), Kernel(both.before[layer]))

    return {layer: {quantity: noted(attempted(partial(row, layer)), both.note)} for layer in both.before}


def _compute(pair: SnapshotPair, probes: int) -> NtkPair:
    trained_parameters(pair)  # raises BadInput unless both snapshots are of one model
    inputs, note = strided(pair.inputs, probes)
    engine = JacobianRows(pair.f_initial, pair.f_initial.inputs(inputs))
    n, k = _sizes(n_samples(inputs), engine.n_outputs, engine.saved)
    projection = None
    notes = [note]
    if n < n_samples(inputs):
        inputs, notes[0] = strided(pair.inputs, n)
    if k < engine.n_outputs:
        draws = torch.randn(engine.n_outputs, k, generator=stream(pair.seed, "ntk outputs"), dtype=WORKING)
        projection = draws / k**0.5
        notes.append(f"{k} random projections of {engine.n_outputs} outputs")
    before = _kernels(pair.f_initial, inputs, projection)
    after = _kernels(pair.f_trained, inputs, projection)
    return NtkPair(before, after, "; ".join(text for text in (*notes, pair.space_note) if text))


def _sizes(n: int, c: int, saved: int) -> tuple[int, int]:
    """(probes, outputs) so that differentiating n k rows stays within the work set aside for it."""
    rows = max(64, WORK // max(saved, 1))
    k = min(c, OUTPUTS)
    if n * k > rows:
        k = min(c, 4)
    return min(n, max(16, rows // k)), k


def _kernels(f: Functional, inputs: object, projection: Tensor | None) -> dict[str, Tensor]:
    groups = {name: k.gram for name, k in ntk_by_parameter_group(f, inputs, projection=projection).items()}
    return {"": torch.stack(list(groups.values())).sum(0), **groups}

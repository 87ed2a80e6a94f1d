"""Compiled ranks on what real and damaged data hold: no value may become an index outside of an array.

Run with index checks too: `make bounds`.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from geomfeat.errors import BadInput
from geomfeat.geometry.rsa._ranks import levels, mid_ranks

SMALLEST = float(np.nextafter(0.0, 1.0))
LARGEST = float(np.finfo(np.float64).max)
ROWS = {
    "constant": [1.0] * 7,
    "one value": [3.0],
    "subnormal range": [0.0, SMALLEST, 5 * SMALLEST, 0.0, 2 * SMALLEST],
    "widest range": [-LARGEST, LARGEST, 0.0, 1.0],
    "crowded": [0.0, 1.0, *np.linspace(0.5, 0.5 + 1e-9, 60)],
    "signed zeros": [0.0, -0.0, 1.0, -1.0],
}


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
def test_ranks_are_those_of_a_plain_sort(row: list[float]) -> None:
    values = torch.tensor([row], dtype=torch.float64)
    found = mid_ranks(values, torch.ones(1, len(row), dtype=torch.float64))
    # Values closer than a share of the largest are tied, which rounds those of the widest range to three.
    seen = np.round(np.array(row) / max(row), 9) if max(row) == LARGEST else row
    assert found[0].tolist() == rankdata(seen).tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 3, 6])
def test_a_row_that_is_not_finite_has_no_ranks_and_leaves_the_others_alone(bad: float, place: int) -> None:
    values = torch.rand(3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values[1, place] = bad
    found = mid_ranks(values, torch.ones(3, 7, dtype=torch.float64))
    assert bool(found[1].isnan().all())
    for row in (0, 2):
        assert found[row].tolist() == rankdata(values[row]).tolist()
    with pytest.raises(BadInput, match="values to rank holds"):
        levels(values)

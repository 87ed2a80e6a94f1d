"""participation_ratio_corrected as a registered measure."""

from __future__ import annotations

import pytest

from geomfeat.errors import BadInput
from geomfeat.registry import get
from geomfeat.types import Representation
from tests.geometry.clouds import normal


@pytest.mark.parametrize("estimator", ["wishart", "unbiased"])
def test_reads_the_population_within_its_error(estimator: str):
    found = get("participation_ratio_corrected").run(Representation(normal(60, 30)), estimator=estimator)
    found = found["participation_ratio_corrected"]
    assert abs(found.value - 30) < 4 * found.stderr
    assert found.stderr < 5
    assert get("participation_ratio").run(Representation(normal(60, 30)))["participation_ratio"].value < 23


def test_unknown_estimator_is_named_by_the_call_and_fails_the_row():
    rep = Representation(normal(20, 5))
    with pytest.raises(BadInput, match="estimator='jackknife'"):
        get("participation_ratio_corrected")(rep, estimator="jackknife")
    row = get("participation_ratio_corrected").run(rep, estimator="jackknife")["participation_ratio_corrected"]
    assert not row.ok
    assert "estimator='jackknife'" in row.note


def test_a_simplex_of_samples_has_no_finite_value():
    """Four samples with an even spectrum: what noise of any dimension would give."""
    corners = normal(4, 4).new_tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    row = get("participation_ratio_corrected").run(Representation(corners))["participation_ratio_corrected"]
    assert not row.ok
    assert "too few" in row.note

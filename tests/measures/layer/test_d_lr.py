"""D_LR as a registered measure: definition, collapse, and its order along lazy and rich features."""

from __future__ import annotations

import pytest
import torch

from geomfeat.measures.layer.d_lr import d_lr
from geomfeat.numerics import stream
from geomfeat.types import Representation
from tests.reference.kernels import d_lr_by_definition

H = torch.randn(20, 6, generator=stream(0, "h"), dtype=torch.float64)
Y = torch.randn(20, 2, generator=stream(0, "y"), dtype=torch.float64)


def test_equals_the_definition() -> None:
    got = d_lr(Representation(H, outputs=Y))
    assert got.value == pytest.approx(d_lr_by_definition(H.numpy(), Y.numpy()), rel=1e-9)


def test_falls_as_features_gather_along_the_outputs() -> None:
    white = torch.linalg.qr(Y - Y.mean(0)).Q
    values = [
        d_lr(Representation(H + size * white @ torch.eye(2, 6, dtype=torch.float64), outputs=Y)).value
        for size in (0, 3, 10, 100, 1e5)
    ]
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    ("outputs", "words"), [(None, "needs outputs"), (torch.ones(20, 2), "same for all"), (H @ H.T, None)]
)
def test_outputs_that_say_nothing_are_a_failed_row(outputs, words: str | None) -> None:
    (row,) = d_lr.run(Representation(H, outputs=outputs)).values()
    assert row.ok == (words is None)
    assert words is None or words in row.note

"""Arrays behind the pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.geometry.dimension.leave_out_spectra import left_out
from geomfeat.numerics import stream
from geomfeat.study.figure_arrays import MOST_SAMPLES, spectrum, umap_plane, umap_rows
from geomfeat.types import Representation


def test_the_spectrum_is_the_covariances() -> None:
    x = torch.randn(20, 5, generator=stream(0, "x")).double()
    expected = np.linalg.eigvalsh(np.cov(x.numpy(), rowvar=False))[::-1]
    rep = Representation(2.0**70 * x)
    np.testing.assert_allclose(spectrum(rep), 2.0**140 * expected, rtol=1e-10)
    left_out(rep)  # as its measures do
    np.testing.assert_allclose(spectrum(rep), 2.0**140 * expected, rtol=1e-10)


def test_rows_are_all_in_order_or_a_seeded_choice() -> None:
    assert umap_rows(20, 0).tolist() == list(range(20))
    some = umap_rows(3 * MOST_SAMPLES, 0)
    assert len(some) == len(set(some.tolist())) == MOST_SAMPLES
    assert some.tolist() == sorted(some.tolist())
    assert not torch.equal(some, umap_rows(3 * MOST_SAMPLES, 1))


def test_two_clusters_are_drawn_apart_and_the_same_every_time() -> None:
    x = torch.randn(40, 6, generator=stream(0, "x"))
    x[20:] += 30
    rep = Representation(x, layer="fc1")
    plane = umap_plane(rep, seed=0)
    assert plane.shape == (40, 2)
    assert plane.dtype == np.float32
    np.testing.assert_array_equal(plane, umap_plane(rep, seed=0))
    halves = plane[:20], plane[20:]
    gap = np.linalg.norm(halves[0].mean(0) - halves[1].mean(0))
    assert gap > 2 * max(np.linalg.norm(half - half.mean(0), axis=1).mean() for half in halves)


@pytest.mark.parametrize(
    ("x", "why"),
    [(torch.randn(14, 3), "at least 15 samples, there are 14"), (torch.randn(20, 1), "one feature"),
     (torch.ones(20, 3), "equal samples")],
)  # fmt: skip
def test_what_cannot_be_drawn_is_reported(x: torch.Tensor, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        umap_plane(Representation(x, layer="fc1"), seed=0)

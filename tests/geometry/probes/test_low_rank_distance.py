"""D_LR: both published forms are one number; known answers; the closed-form jackknife."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.probes import low_rank_distance
from geomfeat.geometry.probes._low_rank_distance import span_of_outputs
from geomfeat.geometry.similarity import cka, one_hot
from geomfeat.numerics import stream
from geomfeat.types import Kernel, Representation
from tests.reference.kernels import d_lr_by_definition, jackknife_by_loop


def draw(n: int, d: int, *names: object) -> Tensor:
    return torch.randn(n, d, generator=stream(0, *names), dtype=torch.float64)


@settings(deadline=None, max_examples=25)
@given(n=st.integers(8, 30), d=st.integers(1, 40), c=st.integers(1, 5), seed=st.integers(0, 10**6))
def test_the_two_forms_agree(n: int, d: int, c: int, seed: int) -> None:
    features, outputs = draw(n, d, seed, "h") + 1, draw(n, c, seed, "y") - 2
    value = low_rank_distance(features, outputs).value
    assert value == pytest.approx(d_lr_by_definition(features.numpy(), outputs.numpy()), abs=1e-9)
    q = span_of_outputs(outputs)
    as_cka = 1 - cka(Kernel(features @ features.T), Kernel(q @ q.T), estimator="biased")
    assert value == pytest.approx(as_cka, abs=1e-9)
    assert 0 <= value <= 1


@pytest.mark.parametrize(("d", "c"), [(3, 2), (40, 3)])
def test_the_standard_error_is_the_jackknife(d: int, c: int) -> None:
    features, outputs = draw(15, d, "h"), draw(15, c, "y")
    outputs[:, 0] += features[:, 0]
    expected = jackknife_by_loop(lambda rows: d_lr_by_definition(features[rows].numpy(), outputs[rows].numpy()), 15)
    assert low_rank_distance(features, outputs).stderr == pytest.approx(expected, rel=1e-8)


def test_collapsed_features_are_as_rich_as_can_be() -> None:
    labels = torch.arange(4).repeat_interleave(6)
    means = torch.linalg.qr(draw(9, 4, "means")).Q.T  # orthonormal class means, no spread within classes
    features = one_hot(labels) @ means
    outputs = features @ draw(9, 4, "read-out")
    assert low_rank_distance(features, outputs).value == pytest.approx(0, abs=1e-12)


def test_isotropic_features_stand_at_one_minus_root_of_the_rank_share() -> None:
    # K = c(K) = a projector of rank d that contains the outputs' of rank r: CKA = r / sqrt(d r).
    q = torch.linalg.qr(torch.cat([torch.ones(30, 1).double(), draw(30, 9, "q")], 1)).Q[:, 1:]
    assert low_rank_distance(q, q[:, :4]).value == pytest.approx(1 - (4 / 9) ** 0.5, abs=1e-12)


def test_a_direction_below_single_precision_is_no_function() -> None:
    outputs = draw(20, 3, "y").float()
    redundant = torch.cat([outputs, outputs.sum(1, keepdim=True)], 1)
    assert span_of_outputs(redundant).shape == (20, 3)
    far = outputs + 1e4  # a large common offset does not turn rounding into functions either
    assert span_of_outputs(torch.cat([far, far.sum(1, keepdim=True)], 1)).shape == (20, 3)


def test_degenerate_inputs_are_refused_with_a_remedy() -> None:
    h = draw(10, 4, "h")
    with pytest.raises(BadInput, match="constant"):
        low_rank_distance(torch.full((10, 3), 0.1), h)
    with pytest.raises(BadInput, match="same for all samples"):
        low_rank_distance(h, torch.full((10, 3), 0.1))
    with pytest.raises(BadInput, match="more samples than outputs"):
        low_rank_distance(h, draw(10, 12, "y"))
    with pytest.raises(BadInput, match="outputs of 9 samples"):
        low_rank_distance(h, h[:9])


def test_a_function_carried_by_one_sample_has_no_jackknife_error() -> None:
    outputs = torch.zeros(12, 1, dtype=torch.float64)
    outputs[3] = 1
    estimate = low_rank_distance(draw(12, 4, "h"), outputs)
    assert estimate.ok
    assert estimate.stderr is None


def test_weak_outputs_of_single_precision_count() -> None:
    features, outputs = draw(4000, 6, "h"), draw(4000, 2, "y")
    outputs[:, 1] *= 1e-3
    assert span_of_outputs(outputs.float()).shape == (4000, 2)
    assert low_rank_distance(features, outputs.float()).value == pytest.approx(
        low_rank_distance(features, outputs).value, rel=1e-3
    )


def test_features_and_outputs_come_in_any_form() -> None:
    features, outputs = draw(15, 3, "h"), draw(15, 2, "y")
    truth = low_rank_distance(features, outputs)
    assert low_rank_distance(features.numpy(), outputs.tolist()) == truth
    assert low_rank_distance(Representation(features), outputs) == truth
    with pytest.raises(BadInput, match="features holds 45 NaN"):
        low_rank_distance(features * torch.nan, outputs)


def test_outputs_have_the_precision_they_came_in() -> None:
    outputs = draw(40, 2, "y") @ draw(2, 6, "mix")
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        assert span_of_outputs(outputs.to(dtype)).shape == (40, 2)
        assert span_of_outputs(outputs.to(dtype).double()).shape == (40, 2)
    counts = (1000 * draw(40, 3, "y")).round().long()
    assert span_of_outputs(counts + 2**40).shape == (40, 3)
    features = draw(40, 5, "h")
    far = low_rank_distance(features, counts + 2**40)
    assert far.value == pytest.approx(low_rank_distance(features, counts).value, rel=1e-9)

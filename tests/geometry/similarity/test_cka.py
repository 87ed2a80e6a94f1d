"""HSIC and CKA: published values, definitions, properties, errors."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.similarity import (
    cka,
    cka_matrix,
    hsic,
    kernel_alignment,
    label_gram,
    linear_gram,
    rbf_gram,
)
from geomfeat.numerics import stream, tolerance
from geomfeat.registry import get
from geomfeat.types import Kernel, Representation
from tests.reference.kernels import cka_by_definition, hsic_by_definition, jackknife_by_loop
from tests.shared_data import shared

ESTIMATORS = ("biased", "unbiased")
# (n, d1, d2): more units than samples, fewer, mixed, so that both the Gram and the feature form are used.
SHAPES = [(7, 3, 2), (7, 12, 9), (8, 3, 20)]


def draw(n: int, d: int, *names: object) -> Tensor:
    return torch.randn(n, d, generator=stream(0, n, d, *names), dtype=torch.float64)


@pytest.mark.parametrize("pair", ["X-Y", "X-Z"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(("kernel", "key"), [("linear", "linear"), ("rbf", "rbf0.5")])
def test_published_values_to_nine_digits(pair: str, estimator: str, kernel: str, key: str) -> None:
    data = np.load(shared("refs/kernels/similarity_inputs.npz"))
    expected = json.loads(shared("refs/kernels/similarity_expected.json").read_text())["cka"][pair]
    a, b = (data[name] for name in pair.split("-"))
    got = cka(a, b, kernel=kernel, estimator=estimator, bandwidth=0.5)
    assert abs(got - expected[f"ckatorch_{key}_{estimator}"]) < 1e-9
    if kernel == "linear":
        assert abs(got - expected["own_biased" if estimator == "biased" else "own_debiased"]) < 1e-9


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_hsic_and_cka_equal_their_definitions(shape: tuple[int, int, int], estimator: str) -> None:
    n, d1, d2 = shape
    a, b = draw(n, d1, "a") + 2, draw(n, d2, "b") - 1
    k, l = linear_gram(a).numpy(), linear_gram(b).numpy()
    assert hsic(a, b, estimator=estimator) == pytest.approx(hsic_by_definition(k, l, estimator), rel=1e-9)
    assert cka(a, b, estimator=estimator) == pytest.approx(cka_by_definition(k, l, estimator), rel=1e-9)
    g = rbf_gram(a).numpy()
    mixed = cka(Kernel(torch.from_numpy(g)), Representation(b), estimator=estimator)
    assert mixed == pytest.approx(cka_by_definition(g, l, estimator), rel=1e-9)


@pytest.mark.parametrize("shape", [(12, 3, 2), (12, 20, 15)])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_standard_error_is_the_jackknife(shape: tuple[int, int, int], estimator: str) -> None:
    n, d1, d2 = shape
    a, b = draw(n, d1, "a"), draw(n, d2, "b")
    b[:, 0] += a[:, 0]
    expected = jackknife_by_loop(lambda rows: cka(a[rows], b[rows], estimator=estimator), n)
    assert cka(a, b, estimator=estimator).stderr == pytest.approx(expected, rel=1e-9)


def test_the_standard_error_covers_the_spread_over_draws() -> None:
    values, errors = [], []
    for seed in range(60):
        a = torch.randn(100, 5, generator=stream(seed, "spread a"), dtype=torch.float64)
        b = a + torch.randn(100, 5, generator=stream(seed, "spread b"), dtype=torch.float64)
        estimate = cka(a, b)
        values.append(estimate.value)
        errors.append(estimate.stderr)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.3)


def test_independent_wide_layers_read_zero_unbiased_and_nearly_one_biased() -> None:
    values = {e: [] for e in ESTIMATORS}
    for seed in range(20):
        a, b = (torch.randn(20, 4000, generator=stream(seed, side)) for side in "ab")
        for estimator in ESTIMATORS:
            values[estimator].append(cka(a, b, estimator=estimator))
    assert min(values["biased"]) > 0.98
    unbiased = np.array(values["unbiased"])
    assert abs(unbiased.mean()) < 4 * unbiased.std() / 20**0.5
    assert abs(unbiased.mean()) < 0.05
    assert unbiased.min() < 0  # never clamped


def test_unbiased_hsic_is_unbiased() -> None:
    # Population HSIC of x with itself for linear kernels: tr Sigma^2 = d for standard normal features.
    for n in (5, 8):
        values = [hsic(x, x) for x in (torch.randn(n, 3, generator=stream(s, "hsic", n)).double() for s in range(800))]
        assert abs(np.mean(values) - 3) < 4 * np.std(values) / 800**0.5


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(5, 30), d1=st.integers(2, 40), d2=st.integers(2, 40), seed=st.integers(0, 10**6),
    scale=st.floats(1e-3, 1e3), shift=st.floats(-100, 100), estimator=st.sampled_from(ESTIMATORS),
)  # fmt: skip
def test_properties(n: int, d1: int, d2: int, seed: int, scale: float, shift: float, estimator: str) -> None:
    g = stream(seed, "properties")
    a, b = (torch.randn(n, d, generator=g, dtype=torch.float64) for d in (d1, d2))
    rotation = torch.linalg.qr(torch.randn(d1, d1, generator=g, dtype=torch.float64)).Q
    order = torch.randperm(n, generator=g)
    value = cka(a, b, estimator=estimator)
    assert (0 if estimator == "biased" else -1) <= value <= 1
    near = {"abs": 1e-9, "rel": 1e-9}
    assert cka(b, a, estimator=estimator) == pytest.approx(value, **near)
    assert cka(a, a, estimator=estimator) == pytest.approx(1, **near)
    assert cka(scale * a @ rotation + shift, b, estimator=estimator) == pytest.approx(value, abs=1e-7)
    assert cka(a[order], b[order], estimator=estimator) == pytest.approx(value, **near)
    # The feature form and the Gram form are one number.
    grams = Kernel(linear_gram(a)), Kernel(linear_gram(b))
    assert cka(*grams, estimator=estimator) == pytest.approx(value, abs=1e-9)


def test_devices_and_inputs_of_every_kind_agree(device: str) -> None:
    a, b = draw(9, 4, "a"), draw(9, 3, "b")
    expected = cka(a, b)
    for x, y in [(a.numpy(), b.numpy()), (Representation(a), Representation(b)), (a.to(device), b.to(device))]:
        assert cka(x, y) == pytest.approx(expected, rel=1e-12)


def test_constant_kernels_have_uncentred_but_no_centred_alignment() -> None:
    labels = torch.arange(10).repeat_interleave(5)
    constant = torch.ones(50, 50, dtype=torch.float64)
    assert kernel_alignment(constant, label_gram(labels)) == pytest.approx(10**-0.5)
    with pytest.raises(BadInput, match="constant"):
        cka(Kernel(constant), Kernel(label_gram(labels)))


def test_alignment_of_a_kernel_with_itself_and_its_multiple() -> None:
    k = linear_gram(draw(6, 3))
    assert kernel_alignment(k, 7 * k) == pytest.approx(1, rel=1e-12)
    assert kernel_alignment(k, -k) == pytest.approx(-1, rel=1e-12)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_constant_features_are_refused(estimator: str, offset: float) -> None:
    constant = torch.full((8, 300), 0.1 + offset, dtype=torch.float64)
    with pytest.raises(BadInput, match="a is constant"):
        cka(constant, draw(8, 3), estimator=estimator)
    with pytest.raises(BadInput, match="b is constant"):
        cka(draw(8, 3), constant, estimator=estimator)


def test_equally_distant_samples_have_no_geometry_for_the_unbiased_estimator() -> None:
    assert cka(torch.eye(6), torch.eye(6), estimator="biased") == pytest.approx(1)
    with pytest.raises(BadInput, match="equally alike"):
        cka(torch.eye(6), draw(6, 3))


def test_small_features_are_not_taken_for_constant() -> None:
    a, b = draw(8, 3, "a"), draw(8, 4, "b")
    assert cka(1e-12 * a, b) == pytest.approx(cka(a, b), rel=1e-9)


@pytest.mark.parametrize(
    ("a", "b", "options", "words"),
    [
        (draw(5, 2), draw(6, 2), {}, "same inputs"),
        (draw(3, 2), draw(3, 2), {}, "at least 4 samples"),
        (draw(5, 2), draw(5, 2), {"estimator": "debiased"}, "estimator must be"),
        (draw(5, 2), draw(5, 2), {"kernel": "poly"}, "kernel must be"),
        (draw(5, 2)[0], draw(5, 2), {}, "samples, features"),
        (draw(5, 2) * float("nan"), draw(5, 2), {}, "NaN"),
        (Kernel(draw(5, 5)), draw(5, 2), {}, "not symmetric"),
        (Kernel(draw(5, 4)), draw(5, 2), {}, "square"),
    ],
)
def test_bad_input_is_reported_clearly(a: object, b: object, options: dict[str, str], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        cka(a, b, **options)


def test_three_samples_do_for_the_biased_estimator() -> None:
    a, b = draw(3, 2, "a"), draw(3, 2, "b")
    expected = cka_by_definition(linear_gram(a).numpy(), linear_gram(b).numpy(), "biased")
    estimate = cka(a, b, estimator="biased")
    torch.testing.assert_close(estimate.value, expected, **tolerance())
    assert estimate.stderr is None


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_sizes_whose_squares_are_out_of_range(size: float, estimator: str) -> None:
    draws = torch.Generator().manual_seed(0)
    a, b = (torch.randn(20, 4, generator=draws, dtype=torch.float64) for _ in range(2))
    truth = cka(a, b, estimator=estimator)
    found = cka(size * a, b, estimator=estimator)
    assert found.value == pytest.approx(truth.value, rel=1e-9)
    assert found.stderr == pytest.approx(truth.stderr, rel=1e-9)
    assert cka(Kernel(size * a @ a.T), b, estimator=estimator) == pytest.approx(truth.value, rel=1e-9)
    several = cka_matrix([size * a, b], estimator=estimator).values[0, 1]
    assert float(several) == pytest.approx(truth.value, abs=1e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_a_mean_far_above_the_spread_costs_no_digits(kernel: str, estimator: str) -> None:
    """Exact multiples of 2^-12 with a mean of four million, as raw voltages have."""
    a, b = ((draw(60, 6, name) * 2**12).round() / 2**12 for name in "ab")
    b = b + a
    expected = cka(a, b, kernel=kernel, estimator=estimator)
    found = cka(a + 2.0**22, b + 2.0**22, kernel=kernel, estimator=estimator)
    assert found.value == pytest.approx(expected.value, rel=1e-8)
    assert found.stderr == pytest.approx(expected.stderr, rel=1e-6)
    whole = cka((a * 2**12).long() + 2**45, (b * 2**12).long(), kernel=kernel, estimator=estimator)
    assert whole == pytest.approx(expected.value, rel=1e-6)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rounding_of_a_constant_is_no_geometry(dtype: torch.dtype, kernel: str) -> None:
    last = torch.randint(0, 2, (12, 5), generator=stream(0, "last")) * torch.finfo(dtype).eps
    noisy = (0.75 * (1 + last.double())).to(dtype)
    assert len(noisy.unique()) > 1
    for x in (noisy, Representation(noisy)):
        with pytest.raises(BadInput, match="median distance" if kernel == "rbf" else "a is constant"):
            cka(x, draw(12, 3), kernel=kernel)


def test_rounding_of_a_constant_kernel_is_no_geometry() -> None:
    noise = draw(20, 20, "noise")
    single = (7 + 1e-7 * (noise + noise.T)).float()
    with pytest.raises(BadInput, match="a is constant"):
        cka(Kernel(single), draw(20, 3))
    double = 7 + 1e-7 * (noise @ noise.T)
    assert cka(Kernel(double), Kernel(noise @ noise.T)) == pytest.approx(1, abs=1e-6)


def test_a_turned_simplex_has_no_geometry_either() -> None:
    turned = torch.eye(9).double() @ torch.linalg.qr(draw(9, 9)).Q
    with pytest.raises(BadInput, match="equally alike"):
        cka(turned, draw(9, 3))


@pytest.mark.parametrize(
    ("measure", "options"),
    [
        ("cka_linear_unbiased", {}),
        ("cka_linear_biased", {"estimator": "biased"}),
        ("cka_rbf_unbiased", {"kernel": "rbf"}),
    ],
)
@pytest.mark.parametrize("grouped", [False, True])
def test_the_function_and_the_measure_give_the_same_estimate(
    measure: str, options: dict[str, str], grouped: bool
) -> None:
    x = draw(24, 5, "reached either way")
    groups = torch.arange(24) // 3 if grouped else None
    a, b = Representation(x, groups=groups), Representation(x[:, :3] ** 2, groups=groups)
    assert cka(a, b, **options) == get(measure)(a, b)
    assert cka(a, b, **options).note == ("error over 8 groups" if grouped else "")


def test_groups_of_one_side_hold_for_an_array_and_a_kernel_on_the_other() -> None:
    x = draw(24, 5, "one side")
    a = Representation(x, groups=torch.arange(24) // 3)
    of_array = cka(a, x[:, :3])
    assert cka(a, Kernel(linear_gram(x[:, :3]))).stderr == pytest.approx(of_array.stderr, rel=1e-6)
    assert of_array.note == "error over 8 groups"

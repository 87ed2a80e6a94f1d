"""CKA of all pairs at once: the definition, `cka` of every pair, both ways to the sums, dead layers, errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from geomfeat.errors import BadInput
from geomfeat.geometry.similarity import _cka_sums, cka, cka_matrix, linear_gram, rbf_gram
from geomfeat.numerics import stream
from geomfeat.types import Kernel, Representation
from tests.reference.kernels import cka_by_definition

ESTIMATORS = ("biased", "unbiased")
SINGLE = 1e-7  # what single-precision products summed in double precision keep


def layers(n: int, *widths: int, offset: float = 3.0) -> dict[str, Tensor]:
    """Layers that share a signal, with noise of their own and a large mean."""
    signal = torch.randn(n, 4, generator=stream(0, "signal", n), dtype=torch.float64)
    found = {}
    for k, d in enumerate(widths):
        noise = stream(0, n, d, k)
        mix, own = (torch.randn(m, d, generator=noise, dtype=torch.float64) for m in (4, n))
        found[f"layer{k}"] = signal @ mix + own + offset
    return found


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_equals_the_definition(estimator: str) -> None:
    reps = layers(8, 3, 12, 5)
    grams = [linear_gram(x).numpy() for x in reps.values()]
    expected = [[cka_by_definition(k, l, estimator) for l in grams] for k in grams]
    np.testing.assert_allclose(cka_matrix(reps, estimator=estimator).values, expected, rtol=0, atol=SINGLE)


# All through Gram entries; all through features; both in one matrix. More samples than one block of rows holds.
@pytest.mark.parametrize(
    ("n", "widths", "grams"), [(150, (200, 90, 400), 3), (300, (3, 8, 5), 0), (150, (120, 110, 1), 2)]
)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_entry_and_error_is_that_of_the_pair(n: int, widths: tuple[int, ...], grams: int, estimator: str) -> None:
    reps = layers(n, *widths)
    sides = [_cka_sums.Side.of_features(x, x.dtype) for x in reps.values()]
    pairs = {(i, j) for i in range(3) for j in range(i, 3)}
    assert len(_cka_sums.by_gram(sides, pairs)) == grams
    one_by_one = [[cka(a, b, estimator=estimator) for b in reps.values()] for a in reps.values()]
    values = np.array([[e.value for e in row] for row in one_by_one])
    errors = np.array([[e.stderr for e in row] for row in one_by_one])
    for found in (cka_matrix(reps, estimator=estimator), cka_matrix(reps, estimator=estimator, stderr=True)):
        np.testing.assert_allclose(found.values, values, rtol=0, atol=SINGLE)
    np.testing.assert_allclose(found.stderr, errors, rtol=1e-5, atol=SINGLE)


def test_columns_of_another_network_kernels_and_names() -> None:
    reps = layers(20, 5, 30)
    rows = [Representation(x, layer=f"a.{k}") for k, x in reps.items()]
    columns = {"rbf": Kernel(rbf_gram(reps["layer0"])), "same": reps["layer1"].numpy(), "half": reps["layer0"].half()}
    found = cka_matrix(rows, columns, stderr=True)
    assert found.names == ("a.layer0", "a.layer1")
    assert found.other_names == ("rbf", "same", "half")
    expected = [[cka(a, b) for b in columns.values()] for a in rows]
    np.testing.assert_allclose(found.values, expected, rtol=0, atol=SINGLE)
    assert cka_matrix(list(reps.values())).names == ("0", "1")
    assert cka_matrix([rows[0], rows[0]]).names == ("0", "1")


def test_gaussian_kernel() -> None:
    reps = layers(30, 5, 40)
    expected = [[cka(a, b, kernel="rbf", bandwidth=0.8) for b in reps.values()] for a in reps.values()]
    found = cka_matrix(reps, kernel="rbf", bandwidth=0.8)
    np.testing.assert_allclose(found.values, expected, rtol=0, atol=SINGLE)
    assert found.stderr is None


def test_independent_wide_layers_read_zero_and_are_not_clamped() -> None:
    reps = {str(k): torch.randn(40, 3000, generator=stream(k, "independent")) for k in range(12)}
    apart = ~torch.eye(12, dtype=torch.bool)
    values = cka_matrix(reps).values[apart]
    assert values.min() < 0
    assert abs(float(values.mean())) < 4 * float(values.std()) / 66**0.5
    assert cka_matrix(reps, estimator="biased").values[apart].min() > 0.95


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_scale_and_a_large_mean_cost_no_digits(scale: float) -> None:
    reps = layers(40, 6, 60)
    moved = {name: scale * (x + 1e4) for name, x in reps.items()}
    np.testing.assert_allclose(cka_matrix(moved).values, cka_matrix(reps).values, rtol=0, atol=2 * SINGLE)


def test_dead_layers_are_nan_with_a_reason_and_cost_no_other_number() -> None:
    reps = layers(20, 5, 30)
    simplex = torch.eye(20)  # all pairs of samples equally far apart
    found = cka_matrix({**reps, "dead": torch.full((20, 3), 0.1), "simplex": simplex}, stderr=True)
    assert torch.equal(found.values[:2, :2], cka_matrix(reps, stderr=True).values)
    assert found.values[2:].isnan().all()
    assert found.values[:, 2:].isnan().all()
    assert found.stderr[:, 2:].isnan().all()
    assert "dead or saturated" in found.notes["dead"]
    assert "equally alike" in found.notes["simplex"]
    assert not cka_matrix({"a": reps["layer0"], "simplex": simplex}, estimator="biased").notes


def test_devices_agree(device: str) -> None:
    reps = layers(50, 5, 80)
    there = cka_matrix({k: x.to(device) for k, x in reps.items()})
    torch.testing.assert_close(there.values.cpu(), cka_matrix(reps).values, rtol=0, atol=SINGLE)


@pytest.mark.parametrize(
    ("reps", "options", "text"),
    [
        ({}, {}, "no layers"),
        ({"a": torch.randn(5, 2), "b": torch.randn(6, 2)}, {}, "b has 6 samples, a has 5"),
        ({"a": torch.randn(3, 2)}, {}, "at least 4 samples"),
        ({"a": torch.randn(5)}, {}, "samples, features"),
        ({"a": torch.full((5, 2), torch.nan)}, {}, "10 NaN"),
        ({"a": torch.randn(5, 2)}, {"kernel": "cosine"}, "kernel must be one of"),
        ({"a": torch.randn(5, 2)}, {"estimator": "debiased"}, "estimator must be"),
        ({"a": Kernel(torch.randn(5, 4))}, {}, "square kernel"),
    ],
)
def test_bad_input(reps: dict[str, object], options: dict[str, str], text: str) -> None:
    with pytest.raises(BadInput, match=text):
        cka_matrix(reps, **options)


@pytest.mark.parametrize("stderr", [False, True])
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_degenerate_layers_cost_no_other_number_whatever_the_kernel(kernel: str, stderr: bool) -> None:
    reps = layers(40, 5, 8)
    noisy = (0.3 * (1 + torch.randint(0, 2, (40, 4), generator=stream(0, "last")) * 2.0**-23)).float()
    dead = {"dead": torch.ones(40, 5), "rounded": noisy, "half": 0.3 * torch.ones(40, 2).bfloat16()}
    found = cka_matrix({**dead, **reps}, kernel=kernel, stderr=stderr)
    for i, a in enumerate(reps.values(), 3):
        for j, b in enumerate(reps.values(), 3):
            assert float(found.values[i, j]) == pytest.approx(cka(a, b, kernel=kernel).value, abs=1e-6)
    assert found.values[:3].isnan().all()
    assert found.values[:, :3].isnan().all()
    assert set(found.notes) == set(dead)
    assert all("dead or saturated" in note for note in found.notes.values())
    columns = cka_matrix(reps, {"dead": torch.ones(40, 5), "same": reps["layer0"]}, kernel=kernel)
    assert columns.values[:, 0].isnan().all()
    assert float(columns.values[0, 1]) == pytest.approx(1, abs=1e-6)


def test_a_layer_whose_samples_mostly_coincide_has_no_gaussian_kernel() -> None:
    x = torch.zeros(40, 3, dtype=torch.float64)
    x[:6] = torch.randn(6, 3, generator=stream(0, "few"), dtype=torch.float64)
    found = cka_matrix({"few": x, **layers(40, 5)}, kernel="rbf")
    assert "median distance" in found.notes["few"]
    assert not cka_matrix({"few": x, **layers(40, 5)}).notes


def test_a_mean_far_above_the_spread_is_no_dead_layer() -> None:
    reps = layers(40, 6, 60)
    moved = {name: (x * 2**12).round() / 2**12 + 2.0**24 for name, x in reps.items()}
    found = cka_matrix(moved)
    assert not found.notes
    np.testing.assert_allclose(found.values, cka_matrix(reps).values, rtol=0, atol=1e-3)
    counts = {name: (x * 1000).round().long() for name, x in reps.items()}
    far = {name: x + 2**40 for name, x in counts.items()}
    np.testing.assert_allclose(cka_matrix(far).values, cka_matrix(counts).values, rtol=0, atol=2 * SINGLE)


def test_a_large_constant_unit_hides_no_other() -> None:
    reps = layers(40, 6, 60)
    beside = {name: torch.cat([x.float(), torch.full((40, 1), 1e9)], 1) for name, x in reps.items()}
    found = cka_matrix(beside)
    assert not found.notes
    np.testing.assert_allclose(found.values, cka_matrix(reps).values, rtol=0, atol=1e-5)


def test_errors_through_features_are_those_in_double_precision() -> None:
    reps = {name: x.float() for name, x in layers(400, 8, 5, 12).items()}
    found = cka_matrix(reps, stderr=True)
    for i, a in enumerate(reps.values()):
        for j, b in enumerate(reps.values()):
            exact = cka(a.double(), b.double())
            assert float(found.values[i, j]) == pytest.approx(exact.value, abs=SINGLE)
            if i != j:
                assert float(found.stderr[i, j]) == pytest.approx(exact.stderr, rel=1e-6)


@pytest.mark.parametrize("stderr", [False, True])
def test_numbers_do_not_depend_on_the_number_of_threads(stderr: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    reps, found = layers(300, 3, 8, 5, 40), []
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append(cka_matrix(reps, stderr=stderr))
    assert torch.equal(found[0].values, found[1].values)
    if stderr:
        assert torch.equal(found[0].stderr, found[1].stderr)


@pytest.mark.parametrize("widths", [(200, 90, 400), (3, 8, 5)])
@pytest.mark.parametrize(("scale", "dtype"), [(1.0, torch.float32), (1e30, torch.float64), (1e-4, torch.float32)])
def test_features_that_are_formed_when_needed_give_the_same_numbers(
    widths: tuple[int, ...], scale: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    reps = {name: (scale * x).to(dtype) for name, x in layers(150, *widths, offset=50.0).items()}
    reps["layer0"][:, 1] = 7 * scale  # constant
    stored = cka_matrix(reps, stderr=True)
    monkeypatch.setattr(_cka_sums, "MOST_STORED", 0)
    formed = cka_matrix(reps, stderr=True)
    assert torch.equal(formed.values, stored.values)
    assert torch.equal(formed.stderr, stored.stderr)

"""Noise-free capacity and geometry from noisy trials: known manifolds come back, and what cannot is not printed."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds import capacity, noise_corrected_capacity
from geomfeat.recordings import Recording
from tests.geometry.clouds import normal, segments, spheres

RECOVERED = ("capacity", "dimension", "radius", "utility")


def noisy(x: torch.Tensor, repeats: int, snr: float, seed: int, correlated: bool = False) -> torch.Tensor:
    """(P, M, repeats, N) trials; correlated: noise of a few patterns, with eigenvalues 1/i."""
    n = x.shape[2]
    noise = normal(*x.shape[:2], repeats, n, seed=seed)
    if correlated:
        spectrum = 1 / torch.arange(1, n + 1, dtype=torch.float64)
        noise = noise * (spectrum / spectrum.mean()).sqrt() @ torch.linalg.qr(normal(n, n, seed=3))[0]
    return x[:, :, None] + (x.square().mean() / snr).sqrt() * noise


def test_segments_recover_their_exact_capacity():
    """Orthogonal segments of radius .5 around unit centres: 1 / (1/2 + (2/pi) atan R), at an SNR of .1 a trial."""
    x = torch.zeros(5, 2, 40, dtype=torch.float64)
    x[:, :, :10] = segments(5, 0.5)
    exact = 1 / (0.5 + 2 / math.pi * math.atan(0.5))
    found = noise_corrected_capacity(noisy(x, 20, 0.1, seed=3), n_draws=400, seed=2)
    assert abs(found.capacity - exact) < 2 * (found.capacity_se or math.nan)
    # Under the same draws, what is left is due to the noise alone.
    clean = capacity(x, n_draws=400, seed=2, resample=None).capacity
    assert abs(found.capacity - clean) < 0.03
    assert found.measured.capacity < clean - 0.06


def test_known_manifolds_are_within_the_errors_at_any_noise():
    """Four recordings of spheres, SNR .3 to 3, isotropic and correlated noise (benchmarks/trial_noise.py has more)."""
    x = 3 * spheres(4, 5, 40, radius=0.9, d=4)
    truth = [capacity(x, seed=seed, resample=None) for seed in range(100, 106)]
    z = []
    for i in range(4):
        snr, repeats = ((0.3, 20), (1.0, 12), (3.0, 8))[i % 3]
        found = noise_corrected_capacity(noisy(x, repeats, snr, 10 + i, correlated=i % 2 == 1), n_draws=48, seed=i)
        for name in RECOVERED:
            one = found.estimates[name]
            assert one.ok
            z.append((one.value - np.mean([getattr(c, name) for c in truth])) / (one.stderr or math.nan))
    inside = (np.abs(np.array(z).reshape(4, 4)) <= 1.96).mean(0)
    assert (inside >= 0.65).all()
    assert inside.mean() >= 0.9


def test_too_noisy_stimuli_are_not_recovered_and_say_so():
    x = spheres(4, 6, 40, radius=0.9, d=4)
    found = noise_corrected_capacity(noisy(x, 8, 0.05, seed=1), n_draws=32)
    assert found.reliability < 0.3
    assert found.resampled is None
    assert all(not one.ok and math.isnan(one.value) for one in found.estimates.values())
    assert "of the variance between the stimuli of a class is signal" in found.notes[0]
    assert "not recovered" in str(found)
    frame = found.to_frame().set_index("quantity")
    assert frame.loc["capacity", "measured"] == found.measured.capacity


def test_classes_at_the_floor_are_not_recovered():
    found = noise_corrected_capacity(normal(4, 30, 1, 5, seed=1) + 0.3 * normal(4, 30, 4, 5, seed=2), n_draws=32)
    assert found.measured.at_floor
    assert not found.estimates["capacity"].ok
    assert "at the floor" in found.estimates["capacity"].note


def test_forms_groups_and_seeds():
    x = noisy(spheres(3, 4, 20, radius=0.9, d=4), 6, 1.0, seed=1)
    trials, runs = x.reshape(-1, 20), np.tile(range(6), 12)
    first, other = (noise_corrected_capacity(x, groups=runs, n_draws=16, seed=seed) for seed in (0, 1))
    assert first.capacity != other.capacity
    kind, stimulus = np.repeat(["a", "b", "c"], 24), np.tile(np.repeat(range(4), 6), 3)
    listed = noise_corrected_capacity(trials, kind, stimulus, groups=runs, n_draws=16)
    pd.testing.assert_frame_equal(first.to_frame(), listed.to_frame())
    names = [f"{a}{b}" for a, b in zip(kind, stimulus, strict=True)]
    recording = Recording(trials, np.array(names), run=runs)
    by_run = noise_corrected_capacity(recording, {name: name[0] for name in names}, n_draws=16)
    assert by_run.errors_over == "draws and 6 groups"
    assert by_run.capacity == first.capacity
    without = noise_corrected_capacity(x, n_draws=16)
    assert without.errors_over == "draws and 72 trials"
    assert without.measured.capacity == pytest.approx(by_run.measured.capacity)


def test_what_runs_add_to_all_responses_is_noise_of_the_centers_alone():
    """In groups it is not taken off the stimuli, which it moves together; as noise of single trials it would be."""
    x = 3 * spheres(4, 6, 40, radius=0.9, d=4)
    runs, shared, noise = torch.arange(8).repeat(24), normal(1, 1, 8, 40, seed=5), normal(4, 6, 8, 40, seed=6)
    moved = x[:, :, None] + 0.5 * shared + 0.5 * noise
    with_runs, without = (noise_corrected_capacity(moved, groups=g, n_draws=80) for g in (runs, None))
    assert with_runs.reliability > without.reliability + 0.1
    for name in ("capacity", "radius"):
        one = with_runs.estimates[name]
        assert abs(one.value - getattr(capacity(x, n_draws=400, seed=9, resample=None), name)) < 3 * (one.stderr or 0.0)
    lost = noise_corrected_capacity(x[:, :, None] + 2 * shared + 0.5 * noise, groups=runs, n_draws=20)
    assert not lost.estimates["capacity"].ok
    assert "power of the class means is signal" in lost.notes[0]


def test_every_device_gives_the_same(device: str):
    x = noisy(spheres(3, 4, 20, radius=0.9, d=4), 6, 1.0, seed=1)
    runs = torch.arange(6).repeat(12)
    found = noise_corrected_capacity(x, groups=runs, n_draws=20, device=device)
    assert found.measured.norms2.device.type == device
    assert found.capacity == pytest.approx(noise_corrected_capacity(x, groups=runs, n_draws=20).capacity, rel=1e-6)


def test_noise_alone_reads_as_noise_alone():
    """Where stimuli do not differ, the control is what was measured, within errors."""
    x = torch.ones(4, 6, 1, 30, dtype=torch.float64) + normal(4, 6, 8, 30, seed=3)
    found = noise_corrected_capacity(x, n_draws=200)
    assert abs(found.measured.capacity - found.noise.capacity) < 4 * found.noise.capacity_se
    signal = noise_corrected_capacity(x + 2 * normal(4, 1, 1, 30, seed=4), n_draws=200)
    assert abs(signal.noise.capacity - found.noise.capacity) < 4 * found.noise.capacity_se
    assert signal.measured.capacity > signal.noise.capacity + 4 * found.noise.capacity_se


def test_single_stimuli_are_refused():
    with pytest.raises(BadInput, match="every class has one stimulus"):
        noise_corrected_capacity(normal(4, 1, 8, 10))

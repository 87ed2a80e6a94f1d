"""Trials in every form they come in, their blocks and their noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geomfeat.errors import BadInput
from geomfeat.geometry.manifolds.trials.repeated_trials import RepeatedTrials, repeated_trials
from geomfeat.labels import as_labels
from geomfeat.recordings import Recording
from geomfeat.types import Representation
from tests.geometry.clouds import normal

P, M, K, N = 3, 4, 6, 5


def listed(x: torch.Tensor) -> tuple[torch.Tensor, list[str], list[int]]:
    """Trials in a random order, with class names and stimuli that are numbered anew in each class."""
    order = torch.randperm(P * M * K, generator=torch.Generator().manual_seed(1))
    labels = [f"class {i}" for i in torch.arange(P).repeat_interleave(M * K)[order].tolist()]
    return x.reshape(-1, N)[order], labels, torch.arange(M).repeat_interleave(K).repeat(P)[order].tolist()


def whole(trials: RepeatedTrials) -> torch.Tensor:
    return trials.means(torch.zeros_like(trials.stimulus), 1)[0][0]


def test_every_form_of_the_same_trials_gives_the_same_means_and_noise(device: str):
    x = normal(P, M, K, N, seed=3)
    points, labels, stimulus = listed(x)
    forms = [
        repeated_trials(x, None, None, device=device),
        repeated_trials(points.numpy(), labels, stimulus, device=device),
        repeated_trials(Representation(points, labels=as_labels(labels).codes), None, stimulus, device=device),
    ]
    names = [f"{a}/{b}" for a, b in zip(labels, stimulus, strict=True)]
    recording = Recording(points, np.array(names))
    forms.append(repeated_trials(recording, {name: name.split("/")[0] for name in names}, None, device=device))
    for found in forms:
        assert found.x.device.type == device
        torch.testing.assert_close(whole(found).cpu(), x.mean(2).reshape(-1, N))
        torch.testing.assert_close(found.noise().cpu(), x.var(2).sum(-1).flatten())
        assert found.owner.tolist() == [0] * M + [1] * M + [2] * M


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("n_blocks", [1, 2, 3])
def test_blocks_are_random_as_equal_as_can_be_and_of_whole_groups(n_blocks: int, grouped: bool):
    groups = torch.arange(7).repeat(P * M) if grouped else None
    found = repeated_trials(normal(P, M, 7, N, seed=1), None, None, groups=groups)
    one, other = (found.blocks(n_blocks, 0, turn) for turn in (0, 1))
    counts = found.means(one, n_blocks)[1]
    assert counts.sum(0).tolist() == [7] * P * M
    assert int(counts.max() - counts.min()) <= 1
    assert torch.equal(one, found.blocks(n_blocks, 0, 0))
    assert torch.equal(one, other) == (n_blocks == 1)
    if grouped:
        assert found.group is not None
        for group in range(7):
            assert len(one[found.group == group].unique()) == 1


def test_means_of_blocks_are_those_of_their_trials():
    found = repeated_trials(normal(P, M, 7, N, seed=2), None, None)
    block = found.blocks(2, 0, 0)
    means, counts = found.means(block, 2)
    for b in range(2):
        for e in range(P * M):
            own = found.x[(block == b) & (found.stimulus == e)]
            torch.testing.assert_close(means[b, e], own.mean(0))
            assert int(counts[b, e]) == len(own)


def test_noise_is_unbiased_also_where_a_group_moves_all_stimuli_together():
    """Trial noise 2 a unit; every run adds a response of its own, which moves classes but not their stimuli."""
    free, grouped = [], []
    for seed in range(60):
        noise = 2**0.5 * normal(2, 5, K, N, seed=seed)
        free.append(repeated_trials(noise, None, None).noise().mean())
        moved = noise + 3 * normal(1, 1, K, N, seed=1000 + seed)
        groups = torch.arange(K).repeat(10)
        grouped.append(repeated_trials(moved, None, None, groups=groups).noise().mean())
    for values in (torch.stack(free), torch.stack(grouped)):
        assert abs(float(values.mean()) - 2 * N) < 4 * float(values.std()) / 60**0.5


@pytest.mark.parametrize("grouped", [False, True])
def test_noise_of_the_centers_is_unbiased(grouped: bool):
    """Noise 2 a unit and trial, over five stimuli and six repeats; with groups, 9 more for what all have in common."""
    groups = torch.arange(K).repeat(10) if grouped else None
    found = []
    for seed in range(60):
        x = 2**0.5 * normal(2, 5, K, N, seed=seed) + 3 * grouped * normal(1, 1, K, N, seed=1000 + seed)
        trials = repeated_trials(x, None, None, groups=groups)
        found.append(trials.center_noise(trials.noise()).mean())
    values = torch.stack(found)
    assert abs(float(values.mean()) - N * (2 / (5 * K) + 9 * grouped / K)) < 4 * float(values.std()) / 60**0.5


def test_trials_of_one_group_count_as_one_repeat():
    x = normal(P, M, 2 * K, N, seed=4)
    found = repeated_trials(x, None, None, groups=torch.arange(K).repeat_interleave(2).repeat(P * M))
    assert found.repeats.tolist() == [K] * P * M
    torch.testing.assert_close(found.x.reshape(P, M, K, N), x.reshape(P, M, K, 2, N).mean(3))


def test_what_does_not_fit_is_refused_with_the_remedy():
    x = normal(P, M, K, N, seed=3)
    points, labels, stimulus = listed(x)
    rare = torch.tensor(stimulus) > 0
    few = torch.cat([torch.nonzero(rare)[:, 0], torch.nonzero(~rare)[:9, 0]])
    with pytest.raises(BadInput, match=r"3 of 12 stimuli have fewer than 4 trials.*capacity\(\).*noise_control"):
        repeated_trials(points[few], [labels[i] for i in few.tolist()], torch.tensor(stimulus)[few])
    with pytest.raises(BadInput, match="stimulus is None"):
        repeated_trials(points, labels, None)
    with pytest.raises(BadInput, match=r"classes, stimuli, repeats, units.*\(3, 24, 5\)"):
        repeated_trials(x.flatten(1, 2), None, None)
    with pytest.raises(BadInput, match="4 entries"):
        repeated_trials(points, labels, [1, 2, 3, 4])
    recording = Recording(points, np.array(stimulus))
    with pytest.raises(BadInput, match="mapping"):
        repeated_trials(recording, None, None)
    with pytest.raises(BadInput, match="no class of 1 conditions, such as 3"):
        repeated_trials(recording, {0: "a", 1: "a", 2: "b"}, None)
    with pytest.raises(BadInput, match="leave it out"):
        repeated_trials(recording, {0: "a"}, stimulus)

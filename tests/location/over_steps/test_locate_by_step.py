"""The location step by step: that of the inputs so far, whichever axis comes first."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import geomfeat as gf
from geomfeat.data.tasks import two_alternative_choice
from geomfeat.errors import BadInput
from geomfeat.location.over_steps import locate_by_step
from geomfeat.models.recurrent import rate_rnn
from geomfeat.numerics import WORKING
from geomfeat.regimes.training import train_at_gamma

TRIALS = two_alternative_choice(16, fixation=1, stimulus=3, seed=0)
FAST = gf.LocateOptions(n_bootstrap=2, share_left=0.01)


@cache
def ends() -> tuple[nn.Module, nn.Module]:
    start = rate_rnn(3, 10, 1, seed=0).to(WORKING)
    goal = 2.0 * TRIALS.choices.to(WORKING) - 1
    return start, train_at_gamma(start, TRIALS.inputs, goal, gamma=0.5, target_loss=0.3).model


def pair(**options: Any) -> tuple[nn.Module, nn.Module]:
    both = []
    for trained in ends():
        net = rate_rnn(3, 10, 1, seed=1, **options).to(WORKING)
        net.load_state_dict(trained.state_dict())
        both.append(net)
    return both[0], both[1]


def test_each_step_is_located_by_its_inputs_so_far() -> None:
    start, end = pair()
    found = locate_by_step(end, TRIALS.inputs, initial=start, steps=[1, -1], options=FAST)
    assert list(found) == [1, 5]
    for step, place in found.items():
        alone = gf.locate(end, TRIALS.inputs[:, : step + 1], initial=start, progress=False, options=FAST)
        assert place.richness == pytest.approx(alone.richness, abs=1e-12)
        assert place.layers["movement"].tolist() == pytest.approx(alone.layers["movement"].tolist(), abs=1e-12)
    whole = gf.locate(end, TRIALS.inputs, initial=start, progress=False, options=FAST)
    assert found[5].kernel_demand == pytest.approx(whole.kernel_demand, abs=1e-12)
    # What differs between the sides is learned at the end: before the stimulus all trials are one.
    assert found[5].movement > found[1].movement


def test_time_first_and_outputs_of_every_step_give_the_same() -> None:
    start, end = pair()
    wanted = locate_by_step(end, TRIALS.inputs, initial=start, steps=[2, 4], options=FAST)
    for options in ({"every_step": True}, {"batch_first": False}):
        first, last = pair(**options)
        late = not options.get("batch_first", True)
        x = TRIALS.inputs.transpose(0, 1) if late else TRIALS.inputs
        found = locate_by_step(last, x, initial=first, steps=[2, 4], time_first=late, options=FAST)
        for step, place in wanted.items():
            for name in ("richness", "movement", "kernel_demand", "kernel_change", "linearisation_gap"):
                assert getattr(found[step], name) == pytest.approx(getattr(place, name), abs=1e-6), (options, name)


class BothWays(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(3, 4, batch_first=True, bidirectional=True), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0])


def test_what_is_not_causal_or_has_no_such_step_is_refused() -> None:
    with pytest.raises(BadInput, match="in both directions"):
        locate_by_step(BothWays(), TRIALS.inputs, initial=BothWays())
    start, end = pair()
    with pytest.raises(BadInput, match="steps: 6 is none of the 6 steps"):
        locate_by_step(end, TRIALS.inputs, initial=start, steps=[6])
    with pytest.raises(BadInput, match=r"inputs have shape \(3,\)"):
        locate_by_step(end, torch.ones(3), initial=start)

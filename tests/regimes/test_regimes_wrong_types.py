"""Values of types that the annotations do not allow. In a process of its own: in the tests' the annotations refuse."""

from __future__ import annotations

import pytest

from tests.warm_process import run_code

CASES = {
    "train(gamma=None)": "gamma=None must be a positive number",
    "train(gamma='1')": "gamma='1' must be a positive number",
    "train(snapshot_steps=5)": "snapshot_steps=5 must be whole steps",
    "train(snapshot_steps=[0.5])": "snapshot_steps=[0.5] must be whole steps",
    "train(test=x)": "test must be a pair (inputs, targets), got Tensor",
    "at_richness(net, gamma='rich')": "gamma='rich'",
    "Richness.from_r('0.5', 100)": "r='0.5' must be a number",
    "activity_threshold(1.0, nan)": "width=nan",
    "n_active(torch.ones(3), 1.0)": "outputs, inputs",
    "mode_regimes(torch.ones(3), torch.ones(1, 3))": "hidden width",
    "phase_diagram(torch.ones(3, 2), [0.0], [1.0])": "square",
    "phase_diagram(torch.eye(3), [0.0], [1.0], signal=torch.eye(2))": "signal (2, 2)",
    "linear_flow(*balanced_network(3, 3, 3, 0.0), LinearTask(torch.eye(3)), 1.0)": "ascending",
    "training_series([net, net], x, y)": "two or more geomfeat.Snapshot",
    # These are allowed where they can be read without doubt.
    "type(Richness(torch.tensor(2.0)).gamma).__name__": "-> float",
    "n_active(np.eye(3), 0.5).tolist()": "-> 3",
    "mode_regimes(2 * np.eye(3), np.eye(3)).strengths.tolist()": "-> [2.0, 2.0, 2.0]",
    "(balanced_network(2, 2, 2, 0.0, np.int64(4))[1].svd().S).round(decimals=9).tolist()": "-> [2.0, 2.0]",
}
SCRIPT = """
import sys
from math import nan
import numpy as np
import torch
from geomfeat.errors import BadInput
from geomfeat.regimes import *
from tests.option_groups import grouped
x, y, net = torch.ones(4, 3), torch.arange(4) % 2, torch.nn.Linear(3, 2)
def train(**changes):
    return train_at_gamma(net, x, y, **grouped(train_at_gamma, {"gamma": 1.0, "max_steps": 1} | changes))
for case in sys.argv[1:]:
    try:
        print("->", eval(case))
    except BadInput as said:
        print(said)
"""


@pytest.fixture(scope="module")
def message(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    done = run_code(SCRIPT, tmp_path_factory.mktemp("types"), *CASES)
    return dict(zip(CASES, done.stdout.splitlines(), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_wrong_types_are_reported_or_read(case: str, message: dict[str, str]) -> None:
    assert CASES[case] in message[case]

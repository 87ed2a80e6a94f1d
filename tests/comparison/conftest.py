"""Shared by the tests of sweeps."""

from __future__ import annotations

from typing import Any

import pytest

from geomfeat.comparison.sweeps import task
from geomfeat.comparison.sweeps.task import code_version
from tests.comparison.sweeps_on_disk import Counted


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """The addresses of the runs that are really trained, in order."""
    made: Counted = []
    train = task.train_run

    def training(run: Any, data: Any, *device: Any) -> Any:
        made.append(run.address(code_version()))
        return train(run, data, *device)

    monkeypatch.setattr(task, "train_run", training)
    return made

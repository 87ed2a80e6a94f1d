"""Shared by all tests: one torch thread per worker, the devices that are there, and a count of the skips."""

from __future__ import annotations

import gc
import os
import tempfile
from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest
import torch

from tests import shapes

shapes.install()  # before the first import of what is checked
torch.set_num_threads(1)
gc.disable()  # until the tests are collected

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def pytest_configure(config: pytest.Config) -> None:
    """A folder for what the workers of this test run compute once for all; they find its name in the environment."""
    if not hasattr(config, "workerinput"):
        folder = tempfile.TemporaryDirectory(prefix="geomfeat-tests-")
        os.environ["GEOMFEAT_TEST_RUNS"] = folder.name
        config.add_cleanup(folder.cleanup)


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """Every device of this machine."""
    return request.param


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Afterwards the garbage collector passes over what is there and stays to the end: modules and collected tests.

    During the imports it would take a fifth of their time, to find next to nothing.
    """
    found = yield
    gc.freeze()
    gc.enable()
    return found


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line that counts what was left out, by reason: a skipped test shows nothing."""
    reasons = [report.longrepr[2] for report in terminalreporter.getreports("skipped")]
    counts = Counter(reason.removeprefix("Skipped: ") for reason in reasons).most_common()
    if counts:
        message = "; ".join(f"{reason} {n}x" for reason, n in counts)
        terminalreporter.write_line(f"{len(reasons)} skipped: {message}", yellow=True)

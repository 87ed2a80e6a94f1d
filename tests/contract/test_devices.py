"""Every measure and every path of benchmarks/gpu_check.py on a simulated GPU: no mix of devices, the CPU's numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch.utils import backend_registration

from geomfeat.registry import available
from tests.warm_process import run_code

NO_BACKEND = not hasattr(backend_registration, "_setup_privateuseone_for_python_backend")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NO_BACKEND, reason="this torch cannot simulate a device"),
]
# What a sum in another order, and the cones' other method, may change; all is computed in the precision of the CPU.
SAME = 1e-9
# The products of CKA of all pairs are in float32, each device's within 1e-7 of the exact ones.
IN_SINGLE = {"cka_matrix": 2e-7}
# A mix of devices that must be noticed, in a process of its own, since the device stays for the whole process.
MIXES = """
import torch
from tests.simulated_gpu import SimulatedGpu, set_up
gpu = set_up()
with SimulatedGpu():
    x = torch.ones(3, 4, device=gpu)
    assert x.device.type == (x + 1).device.type == gpu
    assert x.cpu().device.type == "cpu"
    assert float(x.sum()) == 12
    for mix in (lambda: x + torch.ones(3, 4), lambda: torch.cat([x, torch.ones(3, 4)]), lambda: x.numpy()):
        try:
            mix()
        except (RuntimeError, TypeError) as error:
            print(type(error).__name__)
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, int]]:
    """Name -> (largest difference to the CPU or the error, how many numbers)."""
    return json.loads(run_code("from tests.simulated_gpu import main\nmain()", tmp_path_factory.mktemp("gpu")).stdout)


def test_the_simulated_gpu_notices_a_mix_of_devices(tmp_path: Path) -> None:
    assert run_code(MIXES, tmp_path).stdout.split() == ["RuntimeError", "RuntimeError", "TypeError"]


def test_no_path_mixes_devices_and_all_give_the_numbers_of_the_cpu(found: dict[str, tuple[str, int]]) -> None:
    wrong = {
        name: what for name, (what, count) in found.items() if not count or float(what) > IN_SINGLE.get(name, SAME)
    }
    assert wrong == {}


def test_every_registered_measure_is_among_them(found: dict[str, tuple[str, int]]) -> None:
    assert {f"{m.scope}: {m.name}" for m in available()} < set(found)
    further = {"locate", "train_at_gamma, float32", "cka_matrix", "ntk, full", "capacity", "extract, bfloat16"}
    assert further < set(found)

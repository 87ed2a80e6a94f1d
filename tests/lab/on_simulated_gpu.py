"""Experiments of the lab on the simulated GPU of tests/simulated_gpu.py, which changes torch for the whole process:

    python -m tests.lab.on_simulated_gpu NAME ...

prints, as JSON, name -> the numbers of its table, or the error.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from geomfeat.lab import all_experiments, get_experiment
from tests.simulated_gpu import SimulatedGpu, allow, set_up


def numbers_of(table: Any) -> list[float]:
    """The numbers of a table of findings, column by column."""
    return [float(v) for column in table.select_dtypes("number") for v in table[column]]


def main() -> None:
    """Run them, small."""
    gpu, found = set_up(), dict[str, Any]()
    all_experiments()
    allow()
    for name in sys.argv[1:]:
        began = time.perf_counter()
        try:
            with SimulatedGpu():
                found[name] = numbers_of(get_experiment(name).function("small", 0, False, gpu).table)
        except Exception as error:  # noqa: BLE001 - one experiment's bug must not cost the others: it is what is told
            found[name] = f"{type(error).__name__}: {error}"
        sys.stderr.write(f"{name}: {time.perf_counter() - began:.0f} s\n")
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()

"""`python -m tests.cli.hostile --calls 2500 --seed 1`: make hostile calls, and tell which ended as they should not.

Every call is made in a folder of its own with whole files of each kind, of which it may damage one. It must end with
exit code 0, or with 2 and one sentence that names the file or the option, without a traceback; and it must leave
nothing half written and nothing of the user's changed. `--only 17` repeats one call.
"""

from __future__ import annotations

import argparse
import collections
import logging
import resource
import sys
import tempfile
import time
from pathlib import Path

from tests.cli.hostile.judge import judged
from tests.cli.hostile.world import build

MEMORY = 24 * 2**30


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--calls", type=int, default=100)
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--only", type=int, default=None)
    asked.add_argument("--verbose", action="store_true")
    asked.add_argument("--world", type=Path, default=None)
    given = asked.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    logging.captureWarnings(False)
    ends: collections.Counter[str] = collections.Counter()
    faults = []
    with tempfile.TemporaryDirectory() as folder:
        world = given.world or Path(folder) / "world"
        if not world.exists():
            build(world)
        start = time.time()
        for number in range(given.calls) if given.only is None else [given.only]:
            began = time.time()
            call, code, found = judged(world, Path(folder), given.seed, number)
            faults += found
            ends[f"exit {code}"] += 1
            for fault in found:
                ends[fault.what] += 1
                print(fault, flush=True)
            if given.verbose:
                print(f"{number} exit {code} {time.time() - began:.1f} s: {call.about}", flush=True)
    print(
        f"{sum(v for k, v in ends.items() if k.startswith('exit '))} calls in {time.time() - start:.0f} s: {dict(ends)}"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

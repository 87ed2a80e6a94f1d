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
                _say(str(fault))
            if given.verbose:
                _say(f"{number} exit {code} {time.time() - began:.1f} s: {call.about}")
    made = sum(count for end, count in ends.items() if end.startswith("exit "))
    tracebacks = ends["traceback"] + ends["traceback shown"] + ends["last resort"]
    _say(f"{made} calls in {time.time() - start:.0f} s, {made - tracebacks} without a traceback: {dict(ends)}")
    return 1 if faults else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

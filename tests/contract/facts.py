"""What every registered measure must tell of itself, whatever it takes: an example that runs, and its facts."""

from __future__ import annotations

import doctest
import sys

from geomfeat.registry import Measure


def assert_examples_run(m: Measure) -> None:
    """Registered measures are objects, which the doctest collector passes over."""
    module = sys.modules[m.function.__module__]
    found = doctest.DocTestFinder(recurse=False).find(m.function, m.name, globs=vars(module).copy())
    results = [doctest.DocTestRunner(verbose=False).run(test) for test in found]
    assert sum(r.attempted for r in results) > 0, f"{m.name} has no example in its docstring"
    assert sum(r.failed for r in results) == 0


def assert_facts_are_reported(m: Measure) -> None:
    """A source, a summary that is a sentence, and bounds and direction of every quantity."""
    assert len(m.source) > 10
    assert m.summary.endswith(".")
    for name, quantity in m.quantities.items():
        assert quantity.bounds[0] < quantity.bounds[1], name
        assert quantity.direction, name

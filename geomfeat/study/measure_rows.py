"""One call of a measure as rows of the table: guarded, timed, and with what it was called on."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from geomfeat._numba.threads import libraries_on_one_thread
from geomfeat.errors import GeomfeatError
from geomfeat.memory import is_out_of_memory
from geomfeat.registry import Measure
from geomfeat.study.table import Row, failed_rows, options_text, row
from geomfeat.types import Estimate, Representation

logger = logging.getLogger("geomfeat.study")
# Numbers of a layer below which measures work in pieces of one thread each: the libraries' threads would spend more
# time waiting for each other, after each of many small operations, than they save.
SMALL = 2**22


def facts_of(*reps: Representation) -> Row:
    """The columns that say what a number was computed from: layers, sizes, precision, device."""
    first = reps[0]
    return {
        "layer": first.layer,
        "layer_b": reps[1].layer if len(reps) > 1 else "",
        "n": first.n,
        "d": first.d,
        "dtype": str(first.x.dtype).removeprefix("torch."),
        "device": first.x.device.type,
    }


def options_of(m: Measure, *reps: Representation) -> str:
    """A measure's options and, where features were reduced or projected, how: as JSON text."""
    how = {k: v for k, v in (reps[0].meta.items() if reps else ()) if k in ("reduce", "project") and v is not None}
    return options_text({**m.options, **how})


def measure_layers(m: Measure, *reps: Representation, seed: int, at: str) -> list[Row]:
    """Rows of a layer or pair measure on one or two representations."""
    facts = {"at": at, "measure": m.name, "options": options_of(m, *reps), **facts_of(*reps)}

    def work() -> dict[str, Estimate]:
        with threads_for(reps[0]):
            result = m.run(*reps, **_seeded(m, seed))
        return {name: result[name] for name in m.quantities}

    result, facts["seconds"], note = guarded(work, f"{m.name} of {at} {reps[0].layer}")
    if note:
        return failed_rows(m.quantities, note, **facts)
    return [row(name, estimate, **facts) for name, estimate in result.items()]


def measure_network(m: Measure, pair: Any, *, seed: int, facts: Mapping[str, Any]) -> list[Row]:
    """Rows of a network diagnostic: one for every quantity of every layer it measures ("" is the whole network)."""
    facts = {"measure": m.name, "options": options_of(m), **facts}
    result, facts["seconds"], note = guarded(lambda: m.run(pair, **_seeded(m, seed)), f"{m.name} ({facts['at']})")
    if note:
        return failed_rows(m.quantities, note, **facts)
    return [
        row(quantity, estimate, **{**facts, "layer": layer})
        for layer, numbers in _by_layer(result, m.name).items()
        for quantity, estimate in numbers.items()
    ]


def threads_for(rep: Representation) -> AbstractContextManager[Any]:
    """Within it, measures of a layer work on as many of the libraries' threads as serve one of its size."""
    return libraries_on_one_thread() if rep.x.numel() < SMALL else nullcontext()


def guarded(work: Callable[[], Any], what: str) -> tuple[Any, float, str]:
    """(result, seconds, ""), or (None, seconds, note) when `work` raised. An interruption passes through."""
    start = time.perf_counter()
    try:
        result, note = work(), ""
    except GeomfeatError as error:
        result, note = None, str(error)
    except Exception as error:
        if is_out_of_memory(error):
            first = str(error).partition("\n")[0]
            return None, time.perf_counter() - start, f"out of memory ({first}): use fewer samples, or device='cpu'"
        # One measure's bug must not cost the rows of all others: it is logged, and noted in the row.
        logger.warning("%s failed", what, exc_info=True)
        result, note = None, f"unexpected {type(error).__name__}: {error}. Its traceback is in the log (--debug)"
    return result, time.perf_counter() - start, note


def _seeded(m: Measure, seed: int) -> dict[str, int]:
    return {"seed": seed} if "seed" in inspect.signature(m.function).parameters else {}


def _by_layer(result: Any, name: str) -> dict[str, dict[str, Estimate]]:
    """A diagnostic's result as {layer: {quantity: estimate}}; the short forms are of the whole network."""
    if isinstance(result, Estimate):
        return {"": {name: result}}
    if all(isinstance(v, Estimate) for v in result.values()):
        return {"": dict(result)}
    return {layer: {name: v} if isinstance(v, Estimate) else dict(v) for layer, v in result.items()}

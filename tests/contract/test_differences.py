"""benchmarks/differences.py on a few rows: other threads, float32, two ranks; a difference above its limit is told."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from geomfeat.registry import available
from tests.warm_process import warm_context

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def differences() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield import_module("differences")


def rows_of(differences: Any, *settings: str, only: str, context: Any = None) -> dict[tuple[str, str], Any]:
    return {(row.what, row.setting): row for row in differences.rows(settings, only, context)}


@pytest.mark.parametrize(
    "only", ["layer: participation_ratio", "pair: cka_linear", "network: kernel_distance", "ntk, trace"]
)
def test_rows_of_threads_and_of_float32_are_kept(differences: Any, only: str) -> None:
    found = rows_of(differences, "2 threads", "float32", only=only)
    assert {setting for _, setting in found} == {"2 threads", "float32"}
    assert all(row.kept for row in found.values()), [*map(str, found.values())]


def test_two_ranks_have_the_numbers_of_one(differences: Any) -> None:
    found = rows_of(differences, "2 ranks", only="Streaming", context=warm_context())
    assert {what for what, _ in found} > {"StreamingCKA", "StreamingMoments", "StreamingPoints", "StreamingProbe"}
    assert all(row.kept for row in found.values()), [*map(str, found.values())]
    assert found["StreamingPoints", "2 ranks"].found == "0.0e+00"


def test_every_registered_measure_has_its_rows_and_every_stated_limit_its_row(differences: Any) -> None:
    calls = set(differences.calls())
    assert {f"{m.scope}: {m.name}" for m in available()} < calls
    assert {"study", "locate", "capacity", "cka_matrix", "ntk, full", "extract"} < calls
    stated = {what for settings, some in differences.STATED.items() for what in some if "2 ranks" not in settings}
    assert stated <= calls


def test_what_misses_its_limit_or_fails_is_told(differences: Any) -> None:
    row = differences.row("pair: pwcca", "2 threads", "1.1e-10")
    assert not row.kept
    assert "**no**" in str(row)
    assert "gap between correlations" in str(row)
    assert not replace(row, found="ValueError: no").kept
    assert replace(row, found="9.0e-11").kept
    assert not differences.row("sweep", "dask", "1.0e-16").kept
    assert differences.row("sweep", "dask", "0.0e+00").kept

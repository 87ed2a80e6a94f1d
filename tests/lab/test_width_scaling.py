"""The lab's width scaling at its small size."""

from __future__ import annotations

from tests.lab.small_runs import small_run


def test_slopes_and_verdict() -> None:
    found = small_run("width-scaling")
    assert found.failed == []
    assert {"family", "width", "seed", "layer", "quantity", "value", "ok", "note"} <= set(found.table.columns)
    assert found.table["ok"].all()
    assert "violates useful update at fc2" in found.answer

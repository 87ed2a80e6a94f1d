"""`geomfeat measures`."""

from __future__ import annotations

from collections.abc import Callable

from click.testing import Result

from geomfeat.cli.measures import markdown_table
from geomfeat.registry import available, get

Run = Callable[..., Result]


def test_every_measure_is_listed_with_source_needs_and_bounds(run: Run) -> None:
    text = " ".join(run("measures").stdout.split())
    for m in available():
        assert m.name in text
        assert " ".join(m.source.split()) in text
    assert "capacity one layer; needs labels; n >= " in text.replace("  ", " ")
    assert "cka_linear_unbiased [-1, 1]" in text


def test_the_markdown_table_has_one_row_per_measure(run: Run) -> None:
    lines = run("measures", "--markdown").stdout.strip().splitlines()
    assert lines[1] == "| --- | --- | --- | --- | --- | --- |"
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]] == [m.name for m in available()]
    assert all(line.count(" | ") == 5 for line in lines)


def test_bars_in_a_source_do_not_break_the_table() -> None:
    import dataclasses

    odd = dataclasses.replace(get("two_nn"), source="|x| of A | B")
    assert r"\|x\| of A \| B |" in markdown_table([odd])


def test_one_measure_is_described_at_length(run: Run) -> None:
    text = run("measures", "two_nn").stdout
    assert (get("two_nn").__doc__ or "").strip().splitlines()[0] in text
    assert "does not change under:" in text
    assert "options: method=" in text


def test_an_unknown_measure_is_reported(run: Run) -> None:
    result = run("measures", "two_n")
    assert result.exit_code == 2
    assert "no measure 'two_n'; near: two_nn" in result.output

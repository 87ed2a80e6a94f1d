"""The file of rows: whole after any interruption."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from geomfeat.errors import BadInput
from geomfeat.monitoring.row import Event, Row
from geomfeat.monitoring.rows_file import append, read
from geomfeat.storage.owned_files import is_own

ROW = Row(
    3, 1, {"loss": math.nan, "richness": -math.inf, "movement": 0.1 + 0.2},
    {"rnn[0]": {"dead": 0.25, "movement": math.inf}}, "lazy", 0.5, 2.0, "a note",
)  # fmt: skip


def test_rows_and_events_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append(path, ROW.to_record())
    append(path, Event(3, "dead layer", "It is dead.", "fc", 1).to_record())
    (row,), (event,), cut = read(path)
    assert (row.step, row.session, row.regime, row.seconds, row.trained, row.note) == (3, 1, "lazy", 0.5, 2.0, "a note")
    assert math.isnan(row.get("loss"))
    assert row.get("richness") == -math.inf
    assert row.get("movement") == 0.1 + 0.2
    assert row.of_layer("rnn[0]", "movement") == math.inf
    assert event == Event(3, "dead layer", "It is dead.", "fc", 1)
    assert cut == 0
    assert is_own(path)


def test_a_line_that_was_cut_is_left_out_and_the_next_one_begins_on_its_own(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append(path, ROW.to_record())
    whole = path.read_bytes()
    append(path, ROW.to_record())
    lines = path.read_bytes()
    for length in range(len(whole) + 1, len(lines) - 1):
        path.write_bytes(lines[:length])
        assert (len(read(path)[0]), read(path)[2]) == (1, 1)
    append(path, ROW.to_record())
    rows, _, cut = read(path)
    assert (len(rows), cut) == (2, 1)
    assert path.read_bytes().startswith(lines[: len(lines) - 2])


def test_a_process_that_died_before_its_first_line_leaves_no_trouble(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.touch()
    append(path, ROW.to_record())
    assert len(read(path)[0]) == 1


@pytest.mark.parametrize("content", [b"", b"{}\n", b"mine\n", b'{"kind": "other"}\n[1]\n'])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(BadInput, match="no rows of a monitor"):
        read(path)
    with pytest.raises(BadInput, match="does not exist"):
        read(tmp_path / "other.jsonl")


def test_numbers_for_trackers_are_finite_and_named_by_layer() -> None:
    assert ROW.numbers() == {"movement": 0.1 + 0.2, "dead/rnn[0]": 0.25}

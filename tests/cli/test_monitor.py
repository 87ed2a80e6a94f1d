"""`geomfeat monitor`."""

from __future__ import annotations

import json
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import geomfeat as gf
from geomfeat.report.live_page import LivePage
from tests.cli.conftest import Run
from tests.monitoring.trainings import data, network, trained


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    net, (x, y) = network(), data()
    trained(net, x, y, tmp_path / "mine", 6, every=2)
    (tmp_path / "mine" / "table.parquet").unlink()
    return tmp_path / "mine"


def test_it_prints_the_record_and_writes_page_and_table(folder: Path, run: Run) -> None:
    result = run("monitor", folder)
    assert result.exit_code == 0, result.stderr
    record = gf.load_monitored(folder)
    assert result.stdout.startswith(str(record))
    assert "step 6:" in result.stdout
    assert "Training mine" in (folder / "monitor.html").read_text(encoding="utf-8")
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "table.parquet"), record.table, check_dtype=False)
    assert run("monitor", folder, "--out", folder / "other.html").exit_code == 0
    assert (folder / "other.html").exists()


def test_a_folder_without_a_monitor_is_named(tmp_path: Path, run: Run) -> None:
    result = run("monitor", tmp_path)
    assert result.exit_code == 2
    assert "holds no monitor.json" in result.stderr


def test_served_it_shows_rows_as_they_come(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server runs until it is interrupted: here by the page's reader, after two rows."""
    seen: list[Any] = []

    def visit(server: LivePage) -> None:
        first = urllib.request.urlopen(f"{server.url}state", timeout=10).read()
        seen.append("At step 6" in urllib.request.urlopen(server.url, timeout=30).read().decode())
        line = json.loads((folder / "rows.jsonl").read_text().splitlines()[-1])
        with (folder / "rows.jsonl").open("a") as file:
            file.write(json.dumps({**line, "step": 8}) + "\n")
        seen.append(urllib.request.urlopen(f"{server.url}state", timeout=10).read() != first)
        seen.append("At step 8" in urllib.request.urlopen(server.url, timeout=30).read().decode())
        server.shutdown()

    serve = LivePage.serve_forever

    def serving(server: LivePage) -> None:
        threading.Thread(target=visit, args=(server,)).start()
        serve(server, 0.02)

    monkeypatch.setattr(LivePage, "serve_forever", serving)
    result = run("monitor", folder, "--serve")
    assert result.exit_code == 0, result.stderr
    assert seen == [True, True, True]
    assert "following the training at http://127.0.0.1:" in result.stdout

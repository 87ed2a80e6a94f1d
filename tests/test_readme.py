"""What README, CONTRIBUTING and the pages of docs show must run, and their links must lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from geomfeat.comparison.relations import relate
from geomfeat.comparison.sweeps import sweep
from geomfeat.location import regimes
from tests.warm_process import Finished, run_script

ROOT = Path(__file__).resolve().parents[1]
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
SMALL, LARGE = (f"{100 * share:g}" for share in (regimes.SMALL_CHANGE, regimes.LARGE_CHANGE))
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_example_runs_and_writes_its_page(tmp_path: Path) -> None:
    code = PYTHON.findall(README)[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    (tmp_path / "example.py").write_text(code)
    found = run_script(tmp_path / "example.py", tmp_path)
    assert found.returncode == 0, found.stderr
    shown = re.findall(r"print\(where\)  # (.*?R = -0\.\d)", code)
    assert found.stdout.startswith(shown[0])
    assert (tmp_path / "report.html").stat().st_size > 1e6


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= 650


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_page_can_be_reached_from_the_start_page() -> None:
    linked = set(re.findall(r"\]\(([\w/]+\.md)", (ROOT / "docs" / "index.md").read_text(encoding="utf-8")))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - linked == {"index.md"}


def test_the_rule_of_the_regimes_is_stated_with_the_thresholds_it_uses() -> None:
    text = " ".join((ROOT / "docs" / "location.md").read_text(encoding="utf-8").replace("**", "").split())
    short = lambda value: f"{value:g}".replace("0.", ".")  # noqa: E731
    assert short(regimes.LAZY_BELOW) == "-.5"
    assert f"R > {short(regimes.RICH_DEMAND)} or M > {short(regimes.RICH_MOVEMENT)}" in text
    assert re.search(rf"kappa < {short(regimes.KERNEL_RESTS)} and (it )?changed by less than {SMALL} %", text)
    assert re.search(rf"kappa > {short(regimes.KERNEL_MOVED)} or (it )?changed by more than {LARGE} %", text)
    assert all(word in text.lower() for word in (regimes.FEATURES_ONLY, regimes.KERNEL_ONLY, regimes.BY_OPTIMIZER))


def _run(page: str, folder: Path) -> Finished:
    """The first example of a page of docs, run."""
    code = PYTHON.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))[0]
    (folder / "example.py").write_text(code)
    return run_script(folder / "example.py", folder)


def test_the_example_of_capacity_runs(tmp_path: Path) -> None:
    found = _run("capacity.md", tmp_path)
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("Capacity of 10 classes, 200 draws, random labels; +- one standard error over draws")
    assert "Capacity of b minus a, 200 common draws, correlation 0." in found.stdout


def test_the_example_of_similarity_runs(tmp_path: Path) -> None:
    found = _run("similarity.md", tmp_path)
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("CKA, linear kernel, unbiased\n        flatten     fc1")
    assert "RSA by rho_a with 4 subjects, 95 % intervals, noise ceiling 0." in found.stdout


def test_arrays_of_other_tools_go_in_and_out(tmp_path: Path) -> None:
    found = _run("other_tools.md", tmp_path)
    assert found.returncode == 0, found.stderr
    assert re.match(r"1 .* accuracy = 0\.\d+", found.stdout)  # a layer and its own Gram matrix: CKA 1


def test_the_example_of_the_knob_runs(tmp_path: Path) -> None:
    found = _run("chosen_richness.md", tmp_path)
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("gamma 0.1 (alpha 10, gamma0 0.0125, r -0.55")


def test_the_walks_name_functions_that_are_there_in_at_most_eight_steps() -> None:
    walks = CONTRIBUTING.partition("## Two walks")[2].partition("\n## ")[0].split("\nFrom ")[1:]
    assert len(walks) == 2
    for walk in walks:
        steps = re.findall(r"^\d\. `(geomfeat/[\w/]+\.py)`:(.*)$", walk, re.MULTILINE)
        assert 2 < len(steps) <= 8
        for path, text in steps:
            source = (ROOT / path).read_text(encoding="utf-8")
            named = re.findall(r"`(\w+)`", text)
            assert named
            assert [name for name in named if not re.search(rf"^(def|class) {name}\b", source, re.MULTILINE)] == []


def test_the_tree_shows_every_room() -> None:
    tree = CONTRIBUTING.partition("```\ngeomfeat/\n")[2].partition("```")[0]
    rooms = [path for path in (ROOT / "geomfeat").iterdir() if (path / "__init__.py").exists()]
    files = list((ROOT / "geomfeat").glob("[a-z]*.py"))
    assert [room.name for room in rooms if f"  {room.name}/" not in tree] == []
    assert [file.name for file in files if not re.search(rf"[ ]{file.name}", tree)] == []


def test_a_measure_is_added_by_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    from geomfeat import registry

    registry.available()  # loads all measures, which the copy must not take along when it goes
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry._REGISTERED))
    space: dict[str, object] = {"__name__": "geomfeat.measures.layer.mean_norm"}
    exec(compile(PYTHON.findall(CONTRIBUTING)[-1], "mean_norm.py", "exec"), space)
    added = registry.get("mean_norm")
    assert added.scope == "layer"
    from geomfeat.types import Representation

    assert added(Representation([[3.0, 4.0], [3.0, 4.0]])).value == 5.0


def test_the_page_on_sweeps_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network and the config of the page, on sequences that count up."""
    text = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")
    (tmp_path / "net.py").write_text(PYTHON.findall(text)[0])
    (tmp_path / "sweep.yaml").write_text(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0])
    np.savez(tmp_path / "ids.npz", x=(np.arange(60)[:, None] + np.arange(5)) % 6)
    monkeypatch.chdir(tmp_path)
    made = sweep("sweep.yaml", "out", progress=False)
    assert made.outcomes == {"completed": 4}
    table = made.table
    assert (set(table["width"]), set(table["eta"])) == ({8, 16}, {0.01, 0.03})
    assert table.loc[table["quantity"] == "richness", "ok"].all()
    assert set(relate(table).slopes["term"]) >= {"width", "eta"}


def test_the_page_on_recordings_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "docs" / "recordings.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {}
    for block in PYTHON.findall(text):
        exec(compile(block, "recordings.md", "exec"), space)
    shown = capsys.readouterr().out
    assert shown.startswith(
        "Recording 'monkey 1': 120 trials of 4 conditions (30 each), 40 units (20 in IT, 20 in V1), 10"
    )
    assert "True ('by their usual names, x is 'rates', condition is 'stimulus''" in shown.replace('"', "'")
    assert "x has 1 missing of 4800 values (NaN), in 1 of 120 trials and 1 of 40 units" in shown
    assert "('1 of 40 units were dropped: values are missing (NaN)',)" in shown
    assert "matched trials of each of 4 conditions" in shown
    course = space["course"].select("linear_probe_accuracy", area="IT").table  # type: ignore[attr-defined]
    assert course["value"][:3].max() < 0.5 < 0.9 < course["value"][3:].min()
    assert (tmp_path / "recording.html").stat().st_size > 1e6


def test_the_page_on_forecasts_runs_and_its_training_ends_where_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "forecast.md").read_text(encoding="utf-8")
    exec(compile(PYTHON.findall(text)[0], "forecast.md", "exec"), {})
    expected, after = capsys.readouterr().out.splitlines()
    assert expected.startswith("expected ")
    told, reached = (float(re.findall(r"R = ([+-][\d.]+)", line)[0]) for line in (expected, after))
    assert abs(told - reached) < 0.1


def test_the_page_on_advice_runs_and_its_training_ends_where_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    text, scope = (ROOT / "docs" / "advice.md").read_text(encoding="utf-8"), {}
    exec(compile(PYTHON.findall(text)[0], "advice.md", "exec"), scope)
    advice, x, y = scope["advice"], scope["data"].inputs, scope["data"].labels
    assert capsys.readouterr().out == f"{advice}\n{advice.code}\n"
    model, optimizer, initial = scope["model"], scope["optimizer"], advice.apply(scope["net"])[0]
    options = scope["gf"].LocateOptions(loss="cross-entropy", n_bootstrap=2)
    where = scope["gf"].locate(model, x, y, initial=initial, optimizer=optimizer, progress=False, options=options)
    assert advice.best.regime == "lazy"
    assert abs(where.richness - advice.richness) < 0.3  # it is not stopped at the loss of the forecast

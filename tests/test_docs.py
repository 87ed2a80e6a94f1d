"""The documentation: its examples run, its pictures show what it says, its pages are complete and can be reached."""

from __future__ import annotations

import ast
import importlib.util
import re
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import geomfeat as gf
from tests.warm_process import run_script

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)
PAGES = sorted([*(DOCS / "concepts").glob("*.md"), *(DOCS / "how_to").glob("*.md")])
name_of = lambda path: path.stem  # noqa: E731


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes pages from the package can be imported."""
    monkeypatch.syspath_prepend(str(DOCS))


@cache
def drawing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_pictures", DOCS / "make_pictures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if PYTHON.search(p.read_text(encoding="utf-8"))], ids=name_of)
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if "import transformers" in text or "from transformers" in text:
        pytest.importorskip("transformers")
    (tmp_path / "example.py").write_text("\n".join(PYTHON.findall(text)), encoding="utf-8")
    found = run_script(tmp_path / "example.py", tmp_path)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip()


def test_lazy_and_rich_runs_differ_by_two_decades_at_one_accuracy(tmp_path: Path) -> None:
    code = PYTHON.findall((DOCS / "concepts" / "lazy_and_rich.md").read_text(encoding="utf-8"))[0]
    (tmp_path / "example.py").write_text(code, encoding="utf-8")
    lines = run_script(tmp_path / "example.py", tmp_path).stdout.splitlines()
    accuracy, richness = zip(
        *(re.findall(r"accuracy ([\d.]+), R = ([-+.\d]+)", line)[0] for line in lines), strict=True
    )
    assert accuracy == ("1.00", "1.00")
    assert float(richness[1]) - float(richness[0]) == pytest.approx(2, abs=0.3)


@pytest.mark.slow
def test_pictures_of_trainings_show_what_their_pages_say(monkeypatch: pytest.MonkeyPatch) -> None:
    make = drawing()
    monkeypatch.setattr(make, "GAMMAS", (0.03, 10.0))
    make.located.cache_clear()
    r = make.lazy_and_rich(_axes())["R"]
    assert (r[1] - r[0]) / np.log10(10 / 0.03) == pytest.approx(1, abs=0.1)  # "one decade for each decade"
    excess = make.demand(_axes())["E"]
    assert abs(excess[0]) < 0.06
    assert excess[1] < -0.5
    kernel = make.kernel_and_features(_axes())
    assert (kernel["kappa"][0] < 0, kernel["kappa"][1] > 0) == (True, True)
    assert kernel["change"][0] == pytest.approx(0.1, abs=0.02)
    assert kernel["change"][1] > 30
    assert kernel["gap"] == pytest.approx([0.2, 0.9], abs=0.03)
    make.located.cache_clear()


@pytest.mark.slow
def test_pictures_of_known_clouds_show_what_their_pages_say() -> None:
    make = drawing()
    similarity = make.similarity(_axes())
    assert [round(similarity["biased"][i], 2) for i in (0, -1)] == [0.87, 0.29]
    assert np.abs(similarity["unbiased"]).max() < 0.05
    assert sum(make.error_bars(_axes())["holds"]) == 55
    capacity = make.capacity_geometry(_axes())
    assert all(np.diff(values).max() < 0 for values in capacity.values())
    assert all(np.array(capacity["D = 2"]) > np.array(capacity["D = 10"]))


def _axes():  # type: ignore[no-untyped-def]
    from matplotlib.figure import Figure

    return Figure().subplots()


def test_every_picture_is_committed_and_on_a_page() -> None:
    shown = {
        Path(p).stem for page in PAGES for p in re.findall(r"pictures/(\w+\.png)", page.read_text(encoding="utf-8"))
    }
    drawn = {draw.__name__ for draw in drawing().PICTURES}
    assert shown == drawn == {path.stem for path in (DOCS / "pictures").glob("*.png")}


@pytest.mark.parametrize("folder", ["concepts", "how_to"])
def test_every_page_of_a_folder_is_on_its_list(folder: str) -> None:
    text = (DOCS / folder / "index.md").read_text(encoding="utf-8")
    named = {path.stem for path in (DOCS / folder).glob("*.md")} - {"index"}
    assert {name for name in named if f"]({name}.md)" not in text or f"\n{name}\n" not in text} == set()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_benchmark_that_keeps_its_table_has_a_place_for_it() -> None:
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    kept = {
        name: path.stem
        for path in (ROOT / "benchmarks").glob("*.py")
        for name in re.findall(r'\bkeep\("(\w+)"', path.read_text(encoding="utf-8"))
    }
    assert len(kept) > 10
    for name, script in kept.items():
        assert name == script, "a run with --write looks for the mark of its own file"
        assert re.search(f"<!-- {name}[^\n]*: written by benchmarks/{script}.py -->", results), script


def test_the_faq_quotes_errors_that_are_raised() -> None:
    """Every fixed part of a quoted message is in a text of the package, joined as Python joins them."""
    quoted = re.findall(r"^    (\S.*)$", (DOCS / "faq.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(quoted) >= 10
    known = "\n".join(text for path in (ROOT / "geomfeat").rglob("*.py") for text in _texts(path))
    parts = [part.strip(" :") for quote in quoted for part in quote.split("…")]
    assert [part for part in parts if part.strip(".,:; ") and part not in known] == []


def _texts(path: Path) -> list[str]:
    """The texts of a file; what is filled in becomes a line's end."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            found.append("".join(str(v.value) if isinstance(v, ast.Constant) else "\n" for v in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return found


def test_a_page_of_a_measure_states_its_facts_and_values_on_known_data(pages: None) -> None:
    from _generate import measure_pages  # pyright: ignore[reportMissingImports]

    text = measure_pages.page(gf.get("participation_ratio"))
    assert "| does not change under |" in text
    assert "Gao et al. 2017" in text
    (values,) = re.findall(
        r"^\| `participation_ratio` \| ([\d.]+)[^|]*\| ([\d.]+)[^|]*\| ([\d.]+)", text, re.MULTILINE
    )[-1:]
    round_, flat, apart = map(float, values)
    assert flat == pytest.approx((200 + 38) ** 2 / (2 * 100**2 + 38), rel=0.1)  # two variances of 100, 38 of 1
    assert flat < apart < round_ < measure_pages.UNITS
    same = measure_pages.page(gf.get("cka_linear_unbiased"))
    assert re.search(r"^\| `cka_linear_unbiased` \| 1\s", same, re.MULTILINE)


def test_docstrings_become_markdown(pages: None) -> None:
    from _generate.docstrings import escaped, to_markdown  # pyright: ignore[reportMissingImports]

    assert escaped("`a_b` is x_0 [n] *") == r"`a_b` is x\_0 \[n\] \*"
    assert to_markdown("One.\n\nArgs:\n    x, y: two `n_x`,\n        more_of it.\n    z: one.") == (
        "One.\n\n**Args**\n\n- `x, y`: two `n_x`,\n  more\\_of it.\n- `z`: one."
    )
    assert to_markdown("A norm.\n\n    |x| = 1\n\n>>> 1 + 1\n2") == (
        "A norm.\n\n```text\n|x| = 1\n```\n\n```python\n>>> 1 + 1\n2\n```"
    )


def test_links_out_of_docs_lead_to_the_copy_or_become_text(pages: None) -> None:
    from _generate.links import relinked  # pyright: ignore[reportMissingImports]

    assert relinked("[c](../CHANGELOG.md) [t](../tutorials)", DOCS) == (
        "[c](/generated/changelog.md) [t](/generated/tutorials/index.md)"
    )
    assert relinked("[l](location.md#the-word) [x](../geomfeat/api.py)", DOCS) == (
        "[l](/location.md#the-word) x (`geomfeat/api.py` in the repository)"
    )
    assert relinked("[a](https://a.example/b)", DOCS) == "[a](https://a.example/b)"


def test_the_gallery_has_every_tutorial_and_its_pictures(pages: None) -> None:
    from _generate import gallery  # pyright: ignore[reportMissingImports]

    made = gallery.pages()
    scripts = {path.stem for path in (ROOT / "tutorials").glob("*.py")}
    assert {name.removesuffix(".md") for name in made} == scripts | {"index"}
    pictures = {path.stem for path in gallery.PICTURES.glob("*.png")}
    assert len(pictures) > 6
    assert pictures <= scripts
    assert made["index.md"].count("![") == len(pictures)


def test_formulas_of_tutorials_are_set_without_a_script(pages: None) -> None:
    from _generate.formulas import in_text  # pyright: ignore[reportMissingImports]
    from _generate.gallery import cells  # pyright: ignore[reportMissingImports]

    text = in_text("At $w_0$,\n`$x$` and $$\\frac{a}{b}$$.")
    assert (text.count("<msub>"), text.count("<mfrac>"), text.count("`$x$`")) == (1, 1, 1)
    for script in (ROOT / "tutorials").glob("*.py"):
        text = "\n".join(body for kind, body in cells(script.read_text(encoding="utf-8")) if kind == "markdown")
        assert "$" not in in_text(re.sub("`[^`]*`", "", text)), script.name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Sphinx's extensions use what a later Sphinx will not have
def test_the_site_is_built_without_warnings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pages: None) -> None:
    """Every public name is in the reference, and nothing is loaded from elsewhere."""
    for package in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(package, reason='needs pip install ".[docs]": `make docs` installs it')
    from _generate import measure_pages, reference  # pyright: ignore[reportMissingImports]
    from sphinx.cmd.build import build_main

    monkeypatch.setattr(measure_pages, "_values", lambda m: "")  # a test above has them
    assert build_main(["-q", "-W", "--keep-going", "-b", "html", str(DOCS), str(tmp_path)]) == 0
    found = reference.public()
    assert {id(getattr(gf, name)) for name in gf.__all__ if callable(getattr(gf, name))} <= set(map(id, found.values()))
    assert {"geomfeat.Study", "geomfeat.ModelComparison"} <= set(found)
    html = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.html")]
    assert len(html) > 100
    assert not any(re.search(r'<(script|link|img)[^>]+(src|href)="https?://', text) for text in html)
    assert (tmp_path / "generated" / "measures" / "nc1.html").exists()


def test_the_page_of_growth_is_made_by_its_command(tmp_path: Path) -> None:
    from benchmarks import growth

    some = ["nc1", "gf.cka"]
    words = ["--quick", "--only", *some, "--docs", str(tmp_path), "--points", str(tmp_path / "points")]
    growth.main(words)
    first, points = (tmp_path / growth.PAGE).read_text(encoding="utf-8"), (tmp_path / "points").read_text()
    assert set(re.findall(r"^\| ([\w.]+) \| n:\s[\d,]+,\s[\d,]+ \|", first, re.MULTILINE)) == set(some)
    assert (tmp_path / growth.PICTURE).stat().st_size > 1000
    growth.main(words)  # from the points that are there
    assert (tmp_path / "points").read_text() == points


def test_exponents_of_growth_are_those_of_the_costs() -> None:
    from benchmarks.growth import Point, exponents

    costs = [Point("gf.cka", "n", size, 2.0 * size**2, 3.0, 0.0) for size in (1, 2, 8)]
    assert exponents(costs, "seconds", 1.0) == pytest.approx((2, 2))
    assert all(map(np.isnan, exponents(costs, "megabytes", 5.0)))  # too small to tell


def test_the_page_of_growth_has_every_call_and_its_picture() -> None:
    from benchmarks.growth import PAGE, PICTURE
    from benchmarks.growth_calls import calls

    text = (DOCS / PAGE).read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    for name, call in calls().items():
        assert {axis for axis in call.grows if f"| {name} | {axis}: " in text} == set(call.grows)
    assert PICTURE in text
    assert (DOCS / PICTURE).exists()

"""The wheel: what is in it, and that it works where there is no checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from geomfeat._version import __version__

ROOT = Path(__file__).resolve().parents[1]
USE = """
import torch, geomfeat as gf
x, y = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2
net = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
options = gf.StudyOptions(umap=False)
results = gf.analyze(net, x, y, layers=["0"], measures=["participation_ratio", "nc1"], location=False, options=options)
results.to_html("page.html")
print(gf.__file__)
print(sorted(set(results.table["measure"][results.table["ok"]])))
"""

WITHOUT_PICTURES = """
import sys
for name in ("umap", "plotly", "matplotlib", "zarr"):
    sys.modules[name] = None  # an import of it raises ImportError
import copy, torch, geomfeat as gf, geomfeat.cli
assert all(getattr(gf, name) is not None for name in gf.__all__)
torch.manual_seed(0)
x, y = torch.randn(40, 5), torch.arange(40) % 2
start = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
net = copy.deepcopy(start)
net[0].weight.data *= 1.2
layers = gf.extract(net, x, labels=y, progress=False)
options = gf.LocateOptions(n_bootstrap=2)
print(gf.get("nc1")(layers["0"]).value > 0, len(gf.list_measures()) > 40)
print(gf.locate(net, x, initial=start, options=options, progress=False).regime != "")
"""

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path, path: Path | None = None) -> str:
    """Standard output; PYTHONPATH is `path` alone, and nothing may be fetched."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PIP_NO_INDEX": "1", "NO_COLOR": "1"}
    env |= {"PYTHONPATH": str(path)} if path else {}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what is, or could be, committed: not from what happens to lie in the checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("needs the git checkout")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ".", cwd=source)
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's packages, its dependencies left to the environment."""
    target = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", target, wheel, cwd=target)
    return target


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_module_and_what_goes_with_it(wheel: Path) -> None:
    names = names_in(wheel)
    library = {path.relative_to(ROOT).as_posix() for path in (ROOT / "geomfeat").rglob("*.py")}
    templates = {path.relative_to(ROOT).as_posix() for path in (ROOT / "geomfeat/report/templates").iterdir()}
    assert len(templates) >= 3
    assert library | templates | {"geomfeat/py.typed", "geomfeat/__init__.pyi"} <= names


def test_the_wheel_holds_nothing_else(wheel: Path) -> None:
    about = f"geomfeat-{__version__}.dist-info"
    assert {name.split("/")[0] for name in names_in(wheel)} == {"geomfeat", about}
    assert not [name for name in names_in(wheel) if re.search(r"test|__pycache__|benchmark|tutorial", name)]


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    assert wheel.name == f"geomfeat-{__version__}-py3-none-any.whl"
    about = f"geomfeat-{__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"{about}/METADATA").decode()
        scripts = archive.read(f"{about}/entry_points.txt").decode()
        licence = archive.read(f"{about}/licenses/LICENSE").decode()
    assert f"\nVersion: {__version__}\n" in metadata
    assert "\nLicense-Expression: MIT\n" in metadata
    assert "\nRequires-Python: >=3.11\n" in metadata
    assert "\nRequires-Dist: torch>=2.6\n" in metadata
    assert "geomfeat = geomfeat.cli:main" in scripts
    assert licence == (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_the_command_line_works_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    assert "analyze" in run(sys.executable, "-m", "geomfeat", "--help", cwd=tmp_path, path=installed)
    assert "analyze" in run(installed / "bin" / "geomfeat", "--help", cwd=tmp_path, path=installed)
    said = run(sys.executable, "-m", "geomfeat", "measures", "participation_ratio", cwd=tmp_path, path=installed)
    assert "Gao" in said


def test_python_and_the_page_work_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    said = run(sys.executable, "-c", USE, cwd=tmp_path, path=installed).splitlines()
    assert Path(said[0]) == installed / "geomfeat" / "__init__.py"
    assert said[1] == "['nc1', 'participation_ratio']"
    assert "<html" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_the_core_works_without_what_draws_and_stores(tmp_path: Path) -> None:
    """Measures and locations need none of umap, plotly, matplotlib and zarr, also where their import is refused."""
    assert run(sys.executable, "-c", WITHOUT_PICTURES, cwd=tmp_path, path=ROOT).split() == ["True", "True", "True"]


def test_the_lowest_versions_are_those_that_pyproject_allows() -> None:
    """constraints-lowest.txt pins the lower bound of every dependency of the core and the models, and no other."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounds = [*project["dependencies"], *project["optional-dependencies"]["models"]]
    lines = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert pinned.keys() == {bound.split(">=")[0] for bound in bounds}
    whole = lambda version: [int(part) for part in f"{version}.0.0".split(".")[:3]]  # noqa: E731
    assert {name: whole(version) for name, version in pinned.items()} == {
        name: whole(version) for name, version in (bound.split(">=") for bound in bounds)
    }


def test_the_citation_names_this_version() -> None:
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


# Every part runs in a copy of one process that has imported what is there, and every measure.
BARE = """
import os, sys
for name in (
    "umap", "plotly", "matplotlib", "zarr", "numba", "jaxtyping", "tqdm", "lazy_loader", "safetensors", "pydantic",
    "yaml", "typer", "pyarrow", "jinja2", "transformers", "distributed",
):
    sys.modules[name] = None  # an import of it raises ImportError
import pandas, scipy.stats, sklearn.metrics, torch._dynamo
sys.path.insert(0, "benchmarks")
import gpu_check
gpu_check.pairs_of("cpu")
for part in sys.argv[1:]:
    if (child := os.fork()) == 0:
        sys.argv = ["gpu_check.py", "--device", "cpu", "--small", "--only", part]
        gpu_check.main()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(f"===== {code}", flush=True)
"""


def test_the_check_of_a_gpu_needs_few_packages() -> None:
    """torch, numpy, scipy, scikit-learn and pandas: what a machine with a GPU is likely to have."""
    parts = ["cka_linear", "cones", "ntk, full", "locate", "W1 easy"]
    *pages, after = run(sys.executable, "-c", BARE, *parts, cwd=ROOT, path=ROOT).split("===== 0\n")
    assert after == ""
    for part, said in zip(parts, pages, strict=True):
        assert "**the GPU is unmeasured**" in said
        assert f" {part}" in said
        assert "above" not in said
        assert "without jaxtyping, numba, tqdm" in said

"""The house rules, enforced: layers, sizes, honest tests, no forbidden habits, one version."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = sorted((ROOT / "geomfeat").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
FILE_CAP, FUNCTION_CAP, LINE_CAP = 350, 60, 120
# Reads CIFAR-10's python batches, with an unpickler that knows numpy arrays and nothing else.
MAY_IMPORT_PICKLE = {"geomfeat/data/user_files.py"}
# A clone says nothing of the machines it was written on, nor of where packages come from (but LICENSE and the pins).
MACHINES = re.compile(r"(?<![\w.])/(work|farm|root|tmp)/\w")
FOREIGN = re.compile(r"helper session|pypi\.\w|pythonhosted|npmjs|conda\.anaconda", re.IGNORECASE)
OWN = "tests/contract/test_architecture.py"


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_imports_run_downwards_only() -> None:
    found = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_files_and_functions_are_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= FILE_CAP
    long = []
    for node in functions(ast.parse(text)):
        doc = ast.get_docstring(node, clean=False)
        length = (node.end_lineno or 0) - node.lineno + 1 - (doc.count("\n") + 1 if doc else 0)
        if length > FUNCTION_CAP:
            long.append(f"{node.name}: {length} lines")
    assert not long


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_the_library_keeps_its_habits(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert not re.search(r"\b(TODO|FIXME|XXX|NotImplementedError)\b", text)
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert "pickle" not in imported or name_of(path) in MAY_IMPORT_PICKLE
    for node in ast.walk(tree):
        assert not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print")
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None), "a bare except hides every failure"
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            assert "weights_only=True" in ast.unparse(node)


@pytest.mark.parametrize("path", TESTS, ids=name_of)
def test_tests_can_fail(path: Path) -> None:
    """No comparison whose result is dropped, and no test function that asserts nothing."""
    text = path.read_text(encoding="utf-8")
    comparing = {"allclose", "isclose", "equal", "array_equal"}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr):
            dropped = isinstance(node.value, ast.Compare) or (
                isinstance(node.value, ast.Call) and ast.unparse(node.value.func).split(".")[-1] in comparing
            )
            assert not dropped, f"line {node.lineno}: the comparison's result is dropped"
    for function in functions(ast.parse(text)):
        if function.name.startswith("test_"):
            assert any(map(_can_fail, ast.walk(function))), f"{function.name} asserts nothing"


def _can_fail(node: ast.AST) -> bool:
    """An assertion, or a call of something that makes one: assert_close, pytest.raises, assert_honest, ..."""
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func).split(".")[-1]
        return name.startswith("assert") or name in {"raises", "warns", "fail"}
    return isinstance(node, ast.Assert)


@pytest.mark.parametrize(
    ("source", "fails"),
    [
        ("x == 1", False), ("check(x)", False), ("np.allclose(x, y)", False), ("'assert'", False),
        ("assert x", True), ("torch.testing.assert_close(x, y)", True), ("with pytest.raises(E): f()", True),
    ],
)  # fmt: skip
def test_what_counts_as_an_assertion(source: str, fails: bool) -> None:
    assert any(map(_can_fail, ast.walk(ast.parse(source)))) == fails


def repository_files() -> list[Path]:
    """Every text file that is, or could be, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("needs the git checkout")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and path.stat().st_size < 400_000]


def test_lines_are_short() -> None:
    long = [
        f"{name_of(path)}:{number}"
        for path in repository_files()
        if path.suffix in {".py", ".toml"}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > LINE_CAP
    ]
    assert not long


def test_no_file_names_a_machine() -> None:
    texts = {name_of(path): path.read_text(encoding="utf-8", errors="ignore") for path in repository_files()}
    assert len(texts) > 100
    assert [name for name, text in texts.items() if name != OWN and MACHINES.search(text)] == []


def test_no_file_names_a_package_registry() -> None:
    texts = {name_of(path): path.read_text(encoding="utf-8", errors="ignore") for path in repository_files()}
    allowed = {OWN, "LICENSE", "constraints.txt"}
    assert [name for name, text in texts.items() if name not in allowed and FOREIGN.search(text)] == []


def test_readme_holds_the_current_table_of_measures() -> None:
    from geomfeat.cli.measures import markdown_table
    from geomfeat.registry import available

    assert markdown_table(available()).strip() in (ROOT / "README.md").read_text(encoding="utf-8"), (
        "run: geomfeat measures --markdown, and paste it into README.md"
    )


def test_the_version_stands_in_one_place() -> None:
    import geomfeat
    from geomfeat._version import __version__

    assert geomfeat.__version__ == __version__
    hits = [name_of(p) for p in LIBRARY if f'"{__version__}"' in p.read_text(encoding="utf-8")]
    assert hits == ["geomfeat/_version.py"]
    assert f'version = "{__version__}"' not in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_public_surface_is_explicit() -> None:
    import geomfeat

    for name in geomfeat.__all__:
        assert getattr(geomfeat, name) is not None
    pinned = {"extract", "capacity", "ntk", "cka", "analyze", "locate"}
    pinned |= {"Representation", "Kernel", "Snapshot", "Estimate"}
    assert pinned <= set(geomfeat.__all__)


def test_importing_the_package_is_light() -> None:
    heavy = ("torch", "matplotlib", "plotly", "umap", "numba", "zarr")
    code = f"import sys, geomfeat; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_shapes_are_checked_in_tests() -> None:
    """The pure functions run under jaxtyping's checker: a wrong shape is refused before it is computed with."""
    from geomfeat.geometry.rsa.dissimilarity import condition_means

    assert condition_means(torch.eye(3), torch.arange(3), 3).shape == (3, 3)
    with pytest.raises(jaxtyping.TypeCheckError, match="condition_means"):
        condition_means(torch.ones(3), torch.arange(3), 3)

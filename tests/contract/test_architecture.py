"""What holds for the package as a whole: house rules, the table of measures, one version, a light import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jaxtyping
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from tests import fast_tier, house_rules, shapes

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (house_rules.sizes, "x = 1\n" * 351),
        (house_rules.sizes, "def f():\n" + "    x = 1\n" * 61),
        (house_rules.habits, "import pickle\n"),
        (house_rules.habits, "try:\n    pass\nexcept:\n    pass\n"),
        (house_rules.habits, "print(1)\n"),
        (house_rules.habits, "torch.load(path)\n"),
        (house_rules.habits, "raise NotImplemented" + "Error\n"),
        (house_rules.tests_can_fail, "x == 1\n"),
        (house_rules.tests_can_fail, "np.allclose(x, y)\n"),
        (house_rules.tests_can_fail, "def test_x():\n    check(x)\n"),
        (house_rules.tests_can_fail, "def test_x():\n    'assert'\n"),
    ],
)
def test_a_broken_rule_is_found(rule: house_rules.Rule, text: str) -> None:
    assert len(list(rule("geomfeat/example.py", text))) == 1


@pytest.mark.parametrize("line", ["assert x", "torch.testing.assert_close(x, y)", "with pytest.raises(E): f()"])
def test_what_counts_as_an_assertion(line: str) -> None:
    assert list(house_rules.tests_can_fail("tests/example.py", f"def test_x():\n    {line}\n")) == []


@pytest.mark.parametrize("name", ["geometry/rsa/test_rsa_files.py", "geometry/rsa/test_ranks.py", "contract/test_x.py"])
def test_a_test_that_names_a_module_or_its_package_is_in_place(name: str) -> None:
    assert list(house_rules.tests_mirror_the_package(f"tests/{name}", "")) == []


@pytest.mark.parametrize("name", ["geometry/rsa/test_rank.py", "geometry/test_ranks.py", "rsa/test_ranks.py"])
def test_a_test_that_names_no_module_is_found(name: str) -> None:
    assert len(list(house_rules.tests_mirror_the_package(f"tests/{name}", ""))) == 1


def test_make_check_tests_every_package() -> None:
    tests = ROOT / "tests"
    folders = {path.parent.relative_to(tests).as_posix().replace(".", "") for path in tests.rglob("test_*.py")}
    assert {folder for folder in folders if folder not in fast_tier.FAST} == fast_tier.SLOW_ONLY
    assert [path for path in fast_tier.files() if not path.exists()] == []


def test_a_function_that_hides_a_module_is_found() -> None:
    found = list(
        house_rules.names("geomfeat/geometry/rsa/__init__.py", "from geomfeat.geometry.rsa.x import ranking\n")
    )
    assert len(found) == 1


def test_a_call_of_too_many_arguments_is_found() -> None:
    many = ", ".join(f"a{i}" for i in range(10))
    fine, long = (eval(f"lambda {many}, {rest}: None") for rest in ("layers, device, seed, progress", "a10, seed"))
    assert list(house_rules.arguments("geomfeat.fine", fine)) == []
    (said,) = house_rules.arguments("geomfeat.long", long)
    assert said.startswith("geomfeat.long takes 11 arguments")
    assert "dataclass of options" in said
    assert {"geomfeat.analyze", "geomfeat.locate", "geomfeat.regimes.width_scaling"} <= set(house_rules.exported())


def test_the_docs_hold_the_current_table_of_measures() -> None:
    from geomfeat.cli.measures import markdown_table
    from geomfeat.registry import available

    assert markdown_table(available()).strip() in (ROOT / "docs" / "measures.md").read_text(encoding="utf-8"), (
        "run: geomfeat measures --markdown, and paste it into docs/measures.md"
    )


def test_the_version_stands_in_one_place() -> None:
    import geomfeat
    from geomfeat._version import __version__

    assert geomfeat.__version__ == __version__
    library = {name: text for name, text in house_rules.texts().items() if name.startswith("geomfeat/")}
    hits = [name for name, text in library.items() if f'"{__version__}"' in text]
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


def _turned(x: Float[Tensor, "n d"]) -> Float[Tensor, "d n"]:
    return x if len(x) == 2 else x.T


def _doubled(x: float) -> int:
    return 2 * x  # type: ignore[return-value]


def test_sizes_of_one_name_are_one_and_what_is_returned_is_checked() -> None:
    assert shapes.checked(_turned)(torch.ones(3, 2)).shape == (2, 3)
    with pytest.raises(jaxtyping.TypeCheckError, match="_turned"):
        shapes.checked(_turned)(torch.ones(2, 3))
    assert shapes.checked(_doubled)(2) == 4  # an int will do for a float
    with pytest.raises(jaxtyping.TypeCheckError, match="_doubled"):
        shapes.checked(_doubled)(0.5)


def _given(x: list[Float[Tensor, "n d"]], found: object) -> tuple[Float[Tensor, "n"], dict[str, Float[Tensor, "d"]]]:
    return found.made  # type: ignore[attr-defined]


def test_what_has_passed_once_is_checked_again_where_types_precisions_or_sizes_are_others() -> None:
    given, of_n, of_d = shapes.checked(_given), torch.ones(2), torch.ones(3)
    for _ in range(2):
        assert given([torch.ones(2, 3)], found=SimpleNamespace(made=(of_n, {"a": of_d}))) == (of_n, {"a": of_d})
    for bad in (of_n, (of_d, {"a": of_d}), (of_n, {"a": of_n}), (of_n.int(), {"a": of_d}), (of_n, {}, 0), (of_n, [])):
        with pytest.raises(jaxtyping.TypeCheckError, match="_given"):
            given([torch.ones(2, 3)], found=SimpleNamespace(made=bad))
    for other in ([torch.ones(3, 3)], [torch.ones(2, 3).int()], [torch.ones(6)], torch.ones(2, 3), (torch.ones(2, 3),)):
        with pytest.raises(jaxtyping.TypeCheckError, match="_given"):
            given(other, found=SimpleNamespace(made=(of_n, {"a": of_d})))


@pytest.mark.parametrize("package", ["geometry", "tangent", "regimes"])
def test_no_function_within_a_function_has_shapes_that_would_go_unchecked(package: str) -> None:
    for path in (ROOT / "geomfeat" / package).rglob("*.py"):
        for outer in house_rules.functions(ast.parse(path.read_text(encoding="utf-8"))):
            for inner in house_rules.functions(ast.Module(outer.body, [])):
                hints = [
                    hint for node in ast.walk(inner.args) if isinstance(node, ast.arg) and (hint := node.annotation)
                ]
                hints += [inner.returns] if inner.returns else []
                parts = [node for hint in hints for node in ast.walk(hint) if isinstance(node, ast.Constant)]
                shapes = [part.value for part in parts if isinstance(part.value, str)]
                assert not shapes, f"{path}: {inner.name} in {outer.name}"

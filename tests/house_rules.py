"""The house rules that `make lint` enforces: sizes, names, short calls, honest tests, no forbidden habits.

    python -m tests.house_rules

prints what breaks a rule, a line each, and ends with 1. Import layers are the task of import-linter.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FILE_CAP, FUNCTION_CAP, LINE_CAP, FOLDER_CAP, ARGUMENT_CAP = 350, 60, 120, 22, 10
SHARED = {"layers", "device", "seed", "progress"}  # arguments of every call of the kind, which are not counted
# `locate` takes three things that say where training began, two that say how, and one more than the others.
MAY_TAKE = {"geomfeat.locate": 11}
# Reads CIFAR-10's python batches, with an unpickler that knows numpy arrays and nothing else.
MAY_IMPORT_PICKLE = {"geomfeat/data/user_files.py"}
# A clone says nothing of the machines it was written on, nor of where packages come from (but LICENSE and the pins).
MACHINES = re.compile(r"(?<![\w.])/(work|farm|root|tmp)/\w")
FOREIGN = re.compile(r"helper session|pypi\.\w|pythonhosted|npmjs|conda\.anaconda", re.IGNORECASE)
OWN = "tests/house_rules.py"
# Tests of what belongs to no module: the files of the repository, and facts that hold for every measure and result.
ABOUT_NO_MODULE = (
    "tests/contract/",
    "tests/test_docs.py",
    "tests/test_packaging.py",
    "tests/test_readme.py",
    "tests/test_tutorials.py",
)
COMPARING = {"allclose", "isclose", "equal", "array_equal"}

Rule = Callable[[str, str], Iterator[str]]


def library_rules() -> list[Rule]:
    """Rules for one file of the package: (name, text) -> what breaks them."""
    return [sizes, habits, names]


def sizes(name: str, text: str) -> Iterator[str]:
    """A file has at most 350 lines, a function at most 60 without its docstring."""
    if text.count("\n") > FILE_CAP:
        yield f"{name}: {text.count(chr(10))} lines, at most {FILE_CAP}"
    for node in functions(ast.parse(text)):
        doc = ast.get_docstring(node, clean=False)
        length = (node.end_lineno or 0) - node.lineno + 1 - (doc.count("\n") + 1 if doc else 0)
        if length > FUNCTION_CAP:
            yield f"{name}:{node.lineno}: {node.name} has {length} lines, at most {FUNCTION_CAP}"


def habits(name: str, text: str) -> Iterator[str]:
    """No unfinished work, pickle, print or bare except; weights are read without code."""
    for found in re.finditer(r"\b(TODO|FIXME|XXX|NotImplementedError)\b", text):
        yield f"{name}: {found[0]}"
    for node in ast.walk(ast.parse(text)):
        at = f"{name}:{getattr(node, 'lineno', 0)}"
        imported = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
        imported |= {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
        if "pickle" in imported and name not in MAY_IMPORT_PICKLE:
            yield f"{at}: pickle is imported"
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"{at}: a bare except hides every failure"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield f"{at}: print in the library"
        loads = isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
        if loads and "weights_only=True" not in ast.unparse(node):
            yield f"{at}: torch.load without weights_only=True"


def names(name: str, text: str) -> Iterator[str]:
    """An `__init__` exports no name that one of its modules or packages has: `import a.b.c` gives a module."""
    path = ROOT / name
    if path.name != "__init__.py":
        return
    inside = path.parent.iterdir()
    beside = {entry.stem for entry in inside if entry.suffix == ".py" or (entry / "__init__.py").exists()}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module != ".".join(path.parent.relative_to(ROOT).parts):
            for alias in node.names:
                if (alias.asname or alias.name) in beside:
                    yield f"{name}:{node.lineno}: {alias.asname or alias.name} shadows the module of its name"


def tests_mirror_the_package(name: str, text: str) -> Iterator[str]:
    """tests/a/b/test_c.py, or test_c_and_more.py, tests geomfeat/a/b: its module or package c, or c is b itself."""
    path = Path(name)
    if not path.name.startswith("test_") or name.startswith(ABOUT_NO_MODULE):
        return
    tested = ROOT / "geomfeat" / path.parent.relative_to("tests")
    if not (tested / "__init__.py").exists():
        yield f"{name}: there is no package {name_of(tested)}"
        return
    subjects = {entry.stem.strip("_") for entry in tested.iterdir()} | {tested.name.strip("_")}
    if not any(f"{path.stem}_".startswith(f"test_{subject}_") for subject in subjects):
        yield f"{name}: its name begins with no module of {name_of(tested)}"


def tests_can_fail(name: str, text: str) -> Iterator[str]:
    """No comparison whose result is dropped, and no test function that asserts nothing."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            value = node.value
            called = isinstance(value, ast.Call) and ast.unparse(value.func).split(".")[-1] in COMPARING
            if called or isinstance(value, ast.Compare):
                yield f"{name}:{node.lineno}: the comparison's result is dropped"
    for function in functions(tree):
        if function.name.startswith("test_") and not any(map(can_fail, ast.walk(function))):
            yield f"{name}:{function.lineno}: {function.name} asserts nothing"


def can_fail(node: ast.AST) -> bool:
    """An assertion, or a call of something that makes one: assert_close, pytest.raises, assert_honest, ..."""
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func).split(".")[-1]
        return name.startswith("assert") or name in {"raises", "warns", "fail"}
    return isinstance(node, ast.Assert)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def full_folders() -> Iterator[str]:
    """A folder of the package holds at most 22 modules."""
    modules = Counter(path.parent for path in (ROOT / "geomfeat").rglob("*.py") if path.name != "__init__.py")
    for folder, count in modules.items():
        if count > FOLDER_CAP:
            yield f"{name_of(folder)}: {count} modules, at most {FOLDER_CAP}"


def long_calls() -> Iterator[str]:
    """A callable that a package of geomfeat exports takes at most ten arguments, besides the shared ones."""
    for name, called in exported().items():
        yield from arguments(name, called)


def arguments(name: str, called: Callable[..., Any]) -> Iterator[str]:
    """See `long_calls`. Dataclasses and schemas hold results and options: their fields are no arguments."""
    if is_dataclass(called) or hasattr(called, "model_fields"):
        return
    try:
        counted = set(inspect.signature(called).parameters) - SHARED
    except (TypeError, ValueError):  # what Python knows no signature of
        return
    if len(counted) > MAY_TAKE.get(name, ARGUMENT_CAP):
        yield (
            f"{name} takes {len(counted)} arguments besides {', '.join(sorted(SHARED))}, at most {ARGUMENT_CAP}: move "
            "those that travel together into a frozen dataclass of options, exported beside it"
        )


def exported() -> dict[str, Callable[..., Any]]:
    """ "geomfeat.package.name" -> every callable in the `__all__` of geomfeat and of its packages, each once."""
    home = importlib.import_module("geomfeat")
    packages = [info.name for info in pkgutil.walk_packages(home.__path__, "geomfeat.") if info.ispkg]
    found: dict[int, tuple[str, Any]] = {}
    for module in map(importlib.import_module, ["geomfeat", *packages]):
        for name in getattr(module, "__all__", []):
            value = getattr(module, name)
            if callable(value):
                found.setdefault(id(value), (f"{module.__name__}.{name}", value))
    return dict(found.values())


def repository_texts() -> Iterator[str]:
    """Short lines; no machine and no package registry is named in any file that is, or could be, committed."""
    for name, text in texts().items():
        if name.endswith((".py", ".toml")):
            for number, line in enumerate(text.splitlines(), 1):
                if len(line) > LINE_CAP:
                    yield f"{name}:{number}: {len(line)} characters, at most {LINE_CAP}"
        if name != OWN and MACHINES.search(text):
            yield f"{name}: names a path of a machine"
        if name not in {OWN, "LICENSE", "constraints.txt"} and FOREIGN.search(text):
            yield f"{name}: names a package registry"


@cache
def texts() -> dict[str, str]:
    """Every text file of the checkout that git does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    small = [path for path in paths if path.is_file() and path.stat().st_size < 400_000]
    return {name_of(path): path.read_text(encoding="utf-8", errors="ignore") for path in small}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def broken_rules() -> list[str]:
    """What breaks a rule, in the whole checkout."""
    found = [*full_folders(), *long_calls(), *repository_texts()]
    for name, text in texts().items():
        if not name.endswith(".py"):
            continue
        if name.startswith("geomfeat/"):
            found += [line for rule in library_rules() for line in rule(name, text)]
        if name.startswith("tests/"):
            found += [line for rule in (tests_can_fail, tests_mirror_the_package) for line in rule(name, text)]
    return found


if __name__ == "__main__":
    broken = broken_rules()
    sys.stderr.write("".join(f"{line}\n" for line in broken))
    sys.exit(bool(broken))

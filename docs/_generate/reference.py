"""The reference of Python's calls, from signatures and docstrings: a page for each room of the package."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from dataclasses import is_dataclass
from typing import Any

from sphinx.util.inspect import stringify_signature

import geomfeat
from _generate.docstrings import escaped, to_markdown

# What the pages of the site do not show: commands have their own page and help, drawings are made by results.
NOT_SHOWN = ("geomfeat.cli", "geomfeat.report", "geomfeat.charts")


def pages() -> dict[str, str]:
    """index.md, and <room>.md with every public name that is defined in the room."""
    rooms: dict[str, dict[str, Any]] = {}
    for name, value in public().items():
        rooms.setdefault(room_of(value), {})[name] = value
    made = {f"{room}.md": _page(room, names) for room, names in sorted(rooms.items())}
    listed = "\n".join(f"- [{_title(room)}]({room}.md): {escaped(_about(room))}" for room in sorted(rooms))
    tree = "\n".join(sorted(rooms))
    made["index.md"] = (
        "# Reference\n\nEvery public name, by the part of the package that defines it. `gf.x` is `geomfeat.x`; what "
        "has a longer path is imported from there. Deeper paths are private and may change.\n\n"
        f"{listed}\n\n```{{toctree}}\n:hidden:\n\n{tree}\n```\n"
    )
    return made


def public() -> dict[str, Any]:
    """Shortest public path -> function or class, each once: by its own name, where it has others too."""
    packages = [info.name for info in pkgutil.walk_packages(geomfeat.__path__, "geomfeat.") if info.ispkg]
    found: dict[int, tuple[str, Any]] = {}
    for package in ["geomfeat", *sorted(packages, key=lambda name: (name.count("."), name))]:
        if package.startswith(NOT_SHOWN) or "._" in package:
            continue
        module = importlib.import_module(package)
        for name in getattr(module, "__all__", []):
            value = getattr(module, name)
            if inspect.isfunction(value) or inspect.isclass(value):
                known = found.setdefault(id(value), (f"{package}.{name}", value))
                if name == value.__name__ and not known[0].endswith(f".{name}"):
                    found[id(value)] = f"{package}.{name}", value
    return dict(sorted(found.values(), key=lambda item: item[0].lower()))


def room_of(value: Any) -> str:
    """The first name below geomfeat of the module that defines a value.

    >>> room_of(geomfeat.locate)
    'location'
    """
    return value.__module__.split(".")[1]


def _title(room: str) -> str:
    return f"geomfeat.{room}"


def _about(room: str) -> str:
    """The first sentence of a room's docstring."""
    text = inspect.getdoc(importlib.import_module(f"geomfeat.{room}")) or ""
    return " ".join(text.split("\n\n")[0].split())


def _page(room: str, names: dict[str, Any]) -> str:
    blocks = [_class(n, v) if inspect.isclass(v) else _function(n, v) for n, v in names.items()]
    return f"# {_title(room)}\n\n{escaped(_about(room))}\n\n" + "\n\n".join(blocks) + "\n"


def _function(name: str, value: Any, kind: str = "function", fence: str = "`" * 6) -> str:
    flags = ":classmethod:\n" if kind == "method" and inspect.ismethod(value) else ""
    return f"{fence}{{py:{kind}}} {name}{signature(value)}\n{flags}\n{_text(value)}\n{fence}"


def _class(name: str, value: type) -> str:
    """A class with its own public methods; results, which are only returned, are shown without a signature."""
    called = name.endswith("Options") or not is_dataclass(value)
    members = []
    for own, member in sorted(vars(value).items()):
        if own.startswith("_"):
            continue
        if isinstance(member, property):
            members.append(f"`````{{py:property}} {own}\n\n{_text(member)}\n`````")
        elif inspect.isfunction(member) or isinstance(member, classmethod | staticmethod):
            members.append(_function(own, getattr(value, own), "method", "`````"))
    body = "\n\n".join([_text(value), *members])
    return f"``````{{py:class}} {name}{signature(value) if called else ''}\n\n{body}\n``````"


def _text(value: Any) -> str:
    own = value.__doc__ if inspect.isclass(value) else inspect.getdoc(value)
    generated = is_dataclass(value) and (own or "").startswith(f"{getattr(value, '__name__', '')}(")
    return to_markdown(inspect.cleandoc(own)) if own and not generated else ""


def signature(value: Any) -> str:
    """The arguments of a call, on one line; nothing where Python knows none."""
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return "()"
    parameters = [p for p in found.parameters.values() if p.name != "self"]
    return stringify_signature(
        found.replace(parameters=parameters), show_annotation=False, show_return_annotation=False
    ).replace("<factory>", "...")

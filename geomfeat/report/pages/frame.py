"""What all pages share: templates, the script that draws, themes, and the file that they are written to.

Plotly's script is the installed package's, compressed: the browser unpacks it (DecompressionStream). A browser without
that shows a message, the still pictures and the tables.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from geomfeat._version import __version__
from geomfeat.charts import theme as look
from geomfeat.charts.powers import raised
from geomfeat.errors import BadInput
from geomfeat.report.content.components import Figure, Panel, clean
from geomfeat.storage.owned_files import as_path, make_folder, replace_page, require_own


def page_path(path: str | Path, name: str = "report.html") -> Path:
    """The path of a page that may be written: BadInput for a folder; OutputExists for a file of the user's."""
    path = as_path(path)
    if path.is_dir():
        raise BadInput(f"path={str(path)!r} is a folder: name the file, e.g. {str(path / name)!r}")
    require_own([path])
    return path


# Spaces at which no line may end: between a number and its unit or error, and within an interval. The pattern
# begins with the space, so that long texts without spaces (a packed script) are passed over at once.
APART = re.compile(
    r" (?:(?<=\d )(?=%|±|[kMG]B\b|m?s\b|decades?\b)|(?<=± )(?=[\d.])|(?<=[\d%], )(?=[-+−]?[\d.]+(?:[ \u00a0]%)?\]))"
)
SIZE = "\ue000"  # where a page says its size, which is known when it is whole


def save_page(text: str, path: Path) -> Path:
    """Write a page whole, with its seal; returns its path."""
    make_folder(path.parent)
    replace_page(path, text)
    return path


def page_text(
    template: str, drawn: Iterable[Figure], *, static: Mapping[str, str] | None = None, data: str = "", **fields: Any
) -> str:  # fmt: skip
    """A page as text.

    Args:
        drawn: all figures of the page. static: name of a drawing -> data URI of its still picture. data: JSON of the
            explorer. fields: for the template.
    """
    from markupsafe import Markup

    texts = {id(panel): spec_json(panel) for figure in drawn for panel in figure.every}
    placed: dict[str, str] = {}

    def spec(panel: Panel, name: str) -> str:
        """Note under which id of the page a panel stands."""
        placed[name] = texts[id(panel)]
        return ""

    def specs() -> str:
        """All panels, packed; asked for below them."""
        return packed("{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in placed.items()) + "}")

    text = environment().get_template(template).render(
        static=static or {}, spec=spec, specs=specs, size=SIZE, data=Markup(data), plotly=compressed_plotly(),
        dark=look.DARK, tints=look.REGIME_TINTS, version=__version__, **fields,
    )  # fmt: skip
    whole, script = len(text.encode()), len(compressed_plotly())
    before, _, after = text.rpartition(SIZE)
    return before + together(f"{whole / 1e6:.1f} MB, of which {script / 1e6:.1f} MB draw the plots") + after


@cache
def compressed_plotly() -> str:
    """The installed Plotly's JavaScript, gzip in base64: under half of its 4.8 MB. The same text on every call."""
    from plotly.offline import get_plotlyjs

    return packed(get_plotlyjs())


def packed(text: str) -> str:
    """A text as gzip in base64, without a date: the same for the same text."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def spec_json(panel: Panel) -> str:
    """A panel as JSON."""
    return json.dumps(clean({"data": panel.data, "layout": panel.layout}), separators=(",", ":"), allow_nan=False)


def themed(colour: str) -> str:
    """A colour as CSS that follows the theme: its dark twin is a property of the dark style.

    >>> themed("#0072B2")
    'var(--0072B2,#0072B2)'
    """
    return f"var(--{colour.removeprefix('#')},{colour})" if colour in look.DARK else colour


def together(value: Any) -> Any:
    """A text whose numbers stay on one line with their units and errors; anything else as it is.

    >>> len(together("it is 98 % of it").split(" "))
    5
    """
    return type(value)(APART.sub("\u00a0", value)) if isinstance(value, str) else value


@cache
def environment() -> Any:
    """The templates of the pages."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup, escape

    made = Environment(
        loader=PackageLoader("geomfeat.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=together,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["themed"] = themed
    made.filters["raised"] = lambda text: Markup(raised(str(escape(text))))
    return made

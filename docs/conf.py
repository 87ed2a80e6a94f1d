"""How Sphinx builds the pages: `make docs` writes docs/_build/html, without any access to a network."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from _generate import everything, links  # noqa: E402

from geomfeat._version import __version__  # noqa: E402

project, author, release, version = "geomfeat", "the authors of geomfeat", __version__, __version__
project_copyright = "the authors of geomfeat, MIT licence"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "index"
exclude_patterns = ["_build", "_generate", "generated/_*"]
highlight_language = "text"
language = "en"

myst_enable_extensions = ["attrs_inline", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"geomfeat {release}"
html_static_path = []
html_copy_source = False
html_show_sourcelink = False
mathjax_path = "not-used.js"  # formulas are written in text, so that nothing is loaded from elsewhere
pygments_style, pygments_dark_style = "friendly", "monokai"


def setup(app) -> None:
    app.connect("config-inited", lambda app, config: everything.write(HERE / "generated"))
    app.connect("source-read", links.inside)

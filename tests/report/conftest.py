"""Pages made once for all tests of the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from geomfeat.report.pages import write_page
from geomfeat.study import Study
from tests.report import synthetic
from tests.report.browser import Browser


@pytest.fixture(scope="session")
def gallery() -> list[Study]:
    """Three models from lazy to rich."""
    return synthetic.gallery()


@pytest.fixture(scope="session")
def trouble() -> list[Study]:
    """A model with failures and a hostile name, and one without a location or arrays."""
    return synthetic.trouble()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium, for tests marked `needs_chromium`."""
    started = Browser(tmp_path_factory.mktemp("browser"))
    yield started
    started.close()


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The path of the page "gallery", "trouble", "all" of both or "deep" (60 layers), written when first asked for."""
    folder, made = tmp_path_factory.mktemp("pages"), {}
    studies = {
        "gallery": synthetic.gallery,
        "trouble": synthetic.trouble,
        "all": lambda: [*synthetic.gallery(), *synthetic.trouble()],
        "deep": lambda: [synthetic.make_study("deep", -0.5, layers=60)],
    }

    def get(name: str) -> Path:
        if name not in made:
            made[name] = write_page(studies[name](), folder / f"{name}.html")
        return made[name]

    return get

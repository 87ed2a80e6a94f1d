"""Paper figures: every one drawn, text as text, the same bytes twice, clear errors."""

from __future__ import annotations

import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.text import Text

from geomfeat.errors import BadInput, OutputExists
from geomfeat.report import figures, save_figures
from tests.report import synthetic

NAMES = [
    "richness_scale", "features_kernel_plane", "demand_movement_plane", "layer_profiles_classes",
    "layer_profiles_alignment", "layer_profiles_dimension", "layer_profiles_labels", "layer_profiles_movement",
    "cka_matrices", "spectra", "embedding_layers.5",
]  # fmt: skip


def test_all_figures_are_saved_with_text_as_text(tmp_path):
    study = synthetic.make_study("mlp lazy")
    paths = save_figures(study, tmp_path / "new", formats=("svg",))
    assert [p.name for p in paths] == [f"{name}.svg" for name in NAMES]
    scale = paths[0].read_text(encoding="utf-8")
    assert re.search(r"<text[^>]*>mlp lazy", scale)
    assert "<dc:date>" not in scale


def test_pdf_is_a_pdf_without_a_date():
    content = figures.as_bytes(figures.richness_scale(synthetic.make_study()), "pdf")
    assert content[:5] == b"%PDF-"
    assert b"CreationDate" not in content


@pytest.mark.parametrize("form", ["svg", "pdf"])
def test_the_same_studies_give_the_same_bytes(form):
    for draw in (figures.features_kernel_plane, figures.demand_movement_plane):
        one, two = (figures.as_bytes(draw(synthetic.make_study()), form) for _ in range(2))
        assert one == two


def test_profiles_draw_the_values_of_the_study(gallery):
    figure = figures.layer_profiles(gallery, "classes")
    axes = figure.axes[0]
    assert axes.get_title(loc="left") == "Manifold capacity"
    drawn = [line.get_ydata() for line in axes.get_lines()]
    table = gallery[1].table.query("measure == 'capacity' and quantity == 'capacity' and at == 'trained'")
    assert any(np.array_equal(y, table.value) for y in drawn if len(y) == 6)
    assert {t.get_text() for t in figure.legends[0].get_texts()} >= {"mlp lazy, initial", "mlp rich, trained"}


def test_titles_of_panels_stay_on_the_picture(gallery):
    figure = figures.layer_profiles(gallery, "classes")
    figures.as_bytes(figure, "png", 50)
    words = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    assert len(words) > 20
    assert max(text.get_window_extent().x1 for text in words) <= figure.bbox.x1


def test_matrices_are_on_one_scale_from_zero_to_one(gallery):
    images = [image for axes in figures.cka_matrices(gallery).axes for image in axes.get_images()]
    assert len(images) == 9
    assert {image.get_clim() for image in images} == {(0, 1)}
    assert np.array_equal(images[2].get_array(), gallery[0].arrays["cka/initial/trained"])


def test_hostile_and_long_names_and_failures_are_drawn(trouble):
    for name in (
        "richness_scale",
        "features_kernel_plane",
        "demand_movement_plane",
        "cka_matrices",
        "spectra",
        "embedding",
    ):
        figure = getattr(figures, name)(trouble)
        assert b"</svg>" in figures.as_bytes(figure, "svg")
    assert figures.layer_profiles(trouble, "labels").axes


def test_nothing_of_pyplot_is_touched(gallery):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    opened = sys.modules.get("matplotlib.pyplot")
    figures.spectra(gallery)
    assert dict(mpl.rcParams) == before
    assert sys.modules.get("matplotlib.pyplot") is opened


def test_clear_errors(tmp_path):
    study = synthetic.make_study(located=False, arrays=False)
    with pytest.raises(BadInput, match="no numbers for 'richness_scale'; they can be drawn as: layer_profiles"):
        figures.richness_scale(study)
    with pytest.raises(BadInput, match="no numbers for 'embedding:"):
        figures.embedding(study)
    with pytest.raises(BadInput, match=r"group='clases' .* near: classes"):
        figures.layer_profiles(study, "clases")
    with pytest.raises(BadInput, match="'gif' is not one of svg, pdf, png"):
        save_figures(study, tmp_path / "out", formats=("gif",))
    assert not (tmp_path / "out").exists()
    empty = replace(study, table=study.table.iloc[:0])
    assert save_figures(empty, tmp_path) == []


def test_pictures_of_the_users_or_edited_since_are_not_replaced(tmp_path):
    study = synthetic.make_study(located=False, arrays=False)
    study = replace(study, table=study.table.query("measure == 'participation_ratio'"))  # one figure
    paths = save_figures(study, tmp_path / "own", formats=("svg", "pdf"))
    assert [path.suffix for path in paths] == [".svg", ".pdf"]
    assert save_figures(study, tmp_path / "own", formats=("svg", "pdf")) == paths
    for suffix in ("svg", "pdf"):
        path = next(p for p in paths if p.suffix == f".{suffix}")
        edited = path.read_bytes().replace(b"1", b"2", 1)
        path.write_bytes(edited)
        with pytest.raises(OutputExists, match=f"{path.name} was not written by geomfeat, or was changed"):
            save_figures(study, tmp_path / "own", formats=(suffix,))
        assert path.read_bytes() == edited
    mine = tmp_path / "mine" / paths[-1].name
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    with pytest.raises(OutputExists, match=mine.name):
        save_figures(study, mine.parent, formats=("svg", "pdf"))
    assert list(mine.parent.iterdir()) == [mine], "nothing is written beside it"
    with pytest.raises(BadInput, match="names nothing"):
        save_figures(study, "")

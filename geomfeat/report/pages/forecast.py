"""One self-contained HTML page of a forecast: where training will go, by layer, which rates are stable, and advice."""

from __future__ import annotations

import math
from pathlib import Path

from geomfeat.charts import figure_of
from geomfeat.charts.paper_style import style
from geomfeat.forecasting.result import Forecast
from geomfeat.location.advice import Advice
from geomfeat.location.regimes import MEANINGS
from geomfeat.report.content.study_sections import flattened
from geomfeat.report.figures import data_uri
from geomfeat.report.pages.frame import page_path, page_text, save_page
from geomfeat.report.plotly.forecast import forecast_figures

PAGE = "forecast.html"
MOVES = (
    "R falls by one decade where centred outputs are multiplied by ten, at rates that keep the speed of learning.",
    "A lower learning rate leaves R and κ as they are: it is no way to be lazier. A rate near the stable one, or "
    "beyond it, makes features move further than is demanded.",
    "A lower target loss, harder targets and more samples ask for more of features and kernel.",
)


def write_forecast_page(expected: Forecast, path: str | Path, *, advice: Advice | None = None) -> Path:
    """Write the page of a forecast, with the advice for another place if there is one; returns the path.

    Raises BadInput for a path that is a folder, OutputExists for a file that geomfeat did not write.
    """
    path = page_path(path, PAGE)
    return save_page(render(expected, advice), path)


def render(expected: Forecast, advice: Advice | None = None) -> str:
    """The page as text."""
    figures = forecast_figures(expected, advice)
    with style():
        stills = {"layers": data_uri(figure_of(expected._chart()))}
    return page_text(
        "forecast.html.j2",
        figures,
        static=stills,
        title="Where this training will go",
        expected=expected,
        meaning=MEANINGS.get(expected.regime, ""),
        card=_card(expected),
        rates=_rates(expected),
        figures=figures,
        advice=advice,
        asked="" if advice is None else str(advice).partition(":\n")[0],
        moves=MOVES,
        settings=flattened(_settings(expected)),
    )


def _card(expected: Forecast) -> list[tuple[str, str]]:
    """(name, value) of the forecast's numbers; what is not known is left out."""
    low, high = expected.kernel_intervals.get("kernel_demand", (math.nan, math.nan))
    rows = [
        ("demand R", _decades(expected.richness, expected.low, expected.high)),
        ("R as if linear, and with all samples fitted alike", _two_changes(expected)),
        ("kernel demand κ", _decades(expected.kernel_demand, low, high)),
        ("movement M", _decades(expected.movement)),
        ("excess E", _decades(expected.excess)),
        ("loss, as a share of that of outputs 0", f"{expected.initial_loss:.3g} to {expected.loss_reached:.3g}"),
        ("steps, if it stays linear", "" if math.isnan(expected.steps) else f"{expected.steps:.3g}"),
    ]
    return [(name, text.replace("-", "−")) for name, text in rows if text]


def _two_changes(expected: Forecast) -> str:
    """The two demands that R is taken between, where they differ."""
    of = expected.details.get("by_change", {})
    found = of.get("richness", ())
    if len(found) < 2:
        return ""
    return f"{found[0]:+.2f} and {found[1]:+.2f}, taken at {100 * of['share_of_straight']:.0f} % of the way"


def _rates(expected: Forecast) -> list[tuple[str, str]]:
    rows = [
        ("largest stable rate", expected.stable_rate), ("proposed rate", expected.proposed_rate),
        ("given rate", expected.rate), ("curvature of the loss", expected.curvature),
    ]  # fmt: skip
    found = [(name, f"{value:.3g}") for name, value in rows if not math.isnan(value)]
    return [*found, ("the given rate lies in", expected.rate_place)] if expected.rate_place else found


def _decades(value: float, low: float = math.nan, high: float = math.nan) -> str:
    if math.isnan(value):
        return ""
    interval = "" if math.isnan(low) or math.isnan(high) else f" [{low:+.2f}, {high:+.2f}]"
    return f"{value:+.2f}{interval} decades"


def _settings(expected: Forecast) -> dict[str, object]:
    found = {
        "loss": expected.loss, "optimizer": expected.optimizer or "gradient descent", "metric": expected.metric,
        "trained": expected.tangent, "outputs": expected.readout,
        **{name: value for name, value in expected.details.items() if name != "by_change"},
    }  # fmt: skip
    unknown = lambda v: v is None or v in ("", (), []) or (isinstance(v, float) and math.isnan(v))  # noqa: E731
    return {name: value for name, value in found.items() if not unknown(value)}

"""Models as points beside the noise ceiling of the subjects, as lines."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from geomfeat.charts import Curve, Plot
from geomfeat.display import line_chart
from geomfeat.geometry.rsa._noise_ceiling import NoiseCeiling


def models_and_ceiling(names: Sequence[str], mean: Tensor, stderr: Tensor, ceiling: NoiseCeiling) -> Plot:
    """The mean similarity of each model with its error, in the given order; bounds that are unknown are not drawn."""
    plot = line_chart("", "", ceiling.comparator, range(len(names)), mean, stderr, names=names)
    levels = {
        "lower noise ceiling": ceiling.lower, "upper noise ceiling": ceiling.upper,
        "lower noise ceiling by chance": ceiling.chance,
    }  # fmt: skip
    ends = (0, len(names) - 1)
    bounds = [Curve(name, ends, (value, value), kind="theory") for name, value in levels.items() if value == value]
    models = replace(plot.curves[0], label="models", kind="scatter")
    return replace(plot, title=f"RSA by {ceiling.comparator}", curves=[models, *bounds])

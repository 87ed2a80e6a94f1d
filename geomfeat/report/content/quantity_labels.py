"""What the page calls each quantity, and in which group it is drawn.

Quantities that are not listed are drawn too, under their own name with the unit from the registry: a new measure
needs no line here to appear on the page.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """How a quantity is shown: panel title, label of the vertical axis, group, logarithmic axis or not.

    `around`: of a number of two, what stands in the title before and after the words for the two.
    """

    measure: str
    quantity: str
    title: str
    axis: str
    group: str
    log: bool = False
    around: tuple[str, str] | None = None


@dataclass(frozen=True)
class Group:
    """A block of small panels with one caption that says how to read them."""

    key: str
    title: str
    caption: str


# Said below every figure with errors.
OF_BARS = "Bars are ± one standard error, over samples or over what the note of the number says."
GROUPS = (
    Group(
        "classes",
        "Capacity and the geometry of the classes",
        "Each panel follows one quantity from the first to the last hidden layer: capacity rises when classes become "
        "easier to separate, which happens when their dimension or their radius falls. The grey dotted line is the "
        "number of classes over the rank of the layer, the value for points without structure: at this floor (crosses, "
        "not in the lines) classes are not separable, and capacity only counts units.",
    ),
    Group(
        "alignment",
        "Alignments between classes",
        "Mean absolute cosines between the centres and axes of classes; the grey dotted line is the floor, the value "
        "for random directions in as many features: only values above it show structure.",
    ),
    Group(
        "dimension",
        "Dimension of the layers",
        "How many directions the layer uses, by measures that weigh large and small directions differently; a decrease "
        "from initial to trained means that training concentrated the layer on fewer directions.",
    ),
    Group(
        "labels",
        "What the layers know about the labels",
        "As a layer encodes the classes better, probe accuracy and label alignment rise, and within-class scatter "
        "(NC1) and D_LR fall.",
    ),
    Group(
        "movement",
        "How far each layer moved",
        "Change from the initial to the trained network, layer by layer, on logarithmic axes where changes span "
        "decades; near zero, the layer did not change.",
    ),
    Group(
        "other",
        "Other measures",
        "Each panel follows one quantity from the first to the last hidden layer.",
    ),
)

# In braces: which two a number of two is of, where they are a layer before and after training.
_ROWS = (
    ("capacity", "capacity", "Manifold capacity", "classes per feature", "classes"),
    ("capacity", "capacity_faces", "Manifold capacity, from faces", "classes per feature", "classes"),
    ("capacity", "dimension", "Class dimension D", "dimensions", "classes"),
    ("capacity", "radius", "Class radius Rₘ", "radius / centre norm", "classes"),
    ("capacity", "radius_mean", "Class radius, mean over draws", "radius / centre norm", "classes"),
    ("capacity", "utility", "Utility Ψ", "share (0 to 1)", "classes"),
    ("capacity", "simulated_capacity", "Predicted simulated capacity", "classes per feature", "classes"),
    ("capacity", "frac_inside", "Draws inside the cone", "share of draws", "classes"),
    ("capacity", "frac_nonseparable", "Labelings that cannot be separated", "share of labelings", "classes"),
    ("simulated_capacity", "capacity", "Simulated capacity", "classes per feature", "classes"),
    ("simulated_capacity", "frac_nonseparable", "Trials never separable", "share of trials", "classes"),
    ("replica_capacity", "capacity", "Mean-field capacity", "classes per feature", "classes"),
    ("replica_capacity", "radius", "Anchor radius (mean-field)", "radius / centre norm", "classes"),
    ("replica_capacity", "dimension", "Anchor dimension (mean-field)", "dimensions", "classes"),
    ("replica_capacity", "center_correlation", "Centre correlation", "mean |cosine|", "alignment"),
    ("capacity", "center_alignment", "Centres with centres", "mean |cosine|", "alignment"),
    ("capacity", "axis_alignment", "Axes with axes", "mean |cosine|", "alignment"),
    ("capacity", "center_axis_alignment", "Centres with axes", "mean |cosine|", "alignment"),
    ("capacity_shuffled", "capacity", "Manifold capacity, shuffled labels", "classes per feature", "classes"),
    ("capacity_shuffled", "dimension", "Class dimension, shuffled labels", "dimensions", "classes"),
    ("capacity_shuffled", "radius", "Class radius, shuffled labels", "radius / centre norm", "classes"),
    ("capacity_shuffled", "center_alignment", "Centres, shuffled labels", "mean |cosine|", "alignment"),
    ("capacity_shuffled", "axis_alignment", "Axes, shuffled labels", "mean |cosine|", "alignment"),
    ("capacity_shuffled", "center_axis_alignment", "Centres with axes, shuffled", "mean |cosine|", "alignment"),
    ("capacity_noise", "capacity", "Manifold capacity, noise alone", "classes per feature", "classes"),
    ("capacity_noise", "dimension", "Class dimension, noise alone", "dimensions", "classes"),
    ("capacity_noise", "radius", "Class radius, noise alone", "radius / centre norm", "classes"),
    ("capacity_noise", "center_alignment", "Centres, noise alone", "mean |cosine|", "alignment"),
    ("capacity_noise", "axis_alignment", "Axes, noise alone", "mean |cosine|", "alignment"),
    ("capacity_noise", "center_axis_alignment", "Centres with axes, noise alone", "mean |cosine|", "alignment"),
    ("participation_ratio_corrected", "", "Participation ratio, corrected", "dimensions", "dimension"),
    ("participation_ratio", "", "Participation ratio, plain", "dimensions", "dimension"),
    ("effective_rank", "", "Effective rank", "dimensions", "dimension"),
    ("stable_rank", "", "Stable rank", "dimensions", "dimension"),
    ("two_nn", "", "Intrinsic dimension (TwoNN)", "dimensions", "dimension"),
    ("gride", "dimension_2", "Intrinsic dimension (GRIDE), 2 neighbours", "dimensions", "dimension"),
    ("gride", "dimension_4", "Intrinsic dimension (GRIDE), 4 neighbours", "dimensions", "dimension"),
    ("gride", "dimension_8", "Intrinsic dimension (GRIDE), 8 neighbours", "dimensions", "dimension"),
    ("gride", "dimension_16", "Intrinsic dimension (GRIDE), 16 neighbours", "dimensions", "dimension"),
    ("gride", "dimension_32", "Intrinsic dimension (GRIDE), 32 neighbours", "dimensions", "dimension"),
    ("mle_dimension", "", "Intrinsic dimension (likelihood)", "dimensions", "dimension"),
    ("correlation_dimension", "", "Correlation dimension", "dimensions", "dimension"),
    ("rankme", "uncentred", "RankMe, with the mean", "dimensions", "dimension"),
    ("rankme", "centred", "RankMe, centred", "dimensions", "dimension"),
    ("pca_components", "percent_80", "Components for 80 % of the variance", "components", "dimension"),
    ("pca_components", "percent_90", "Components for 90 % of the variance", "components", "dimension"),
    ("pca_components", "percent_95", "Components for 95 % of the variance", "components", "dimension"),
    ("pca_components", "percent_99", "Components for 99 % of the variance", "components", "dimension"),
    ("power_law_exponent", "exponent", "Power-law exponent", "exponent", "dimension"),
    ("power_law_exponent", "r2", "Quality of the power-law fit", "R²", "dimension"),
    ("participation_ratio_of_trials", "", "Participation ratio of the signal", "dimensions", "dimension"),
    ("cross_validated_spectrum", "exponent", "Power-law exponent of the signal", "exponent", "dimension"),
    ("cross_validated_spectrum", "r2", "Quality of the signal's power-law fit", "R²", "dimension"),
    ("linear_probe_accuracy", "", "Linear probe accuracy", "share right", "labels"),
    ("label_alignment_unbiased", "", "Alignment with the labels", "unbiased centred CKA", "labels"),
    ("nc1", "", "Within-class scatter (NC1)", "ratio", "labels", True),
    ("d_lr", "", "Distance from the readout (D_LR)", "1 − CKA", "labels"),
    ("kernel_relative_change", "relative_change", "Change of the tangent kernel", "‖ΔK‖ / ‖K₀‖", "movement", True),
    ("kernel_distance", "distance", "Kernel distance", "1 − cosine", "movement", True),
    ("kernel_distance_centred", "distance_centred", "Kernel distance, centred", "1 − CKA", "movement"),
    ("feature_movement", "relative", "Feature movement", "‖Δh‖ / ‖h₀‖", "movement", True),
    ("weight_movement", "spectral", "Weight movement (spectral)", "‖ΔW‖ / ‖W₀‖", "movement", True),
    ("weight_movement", "frobenius", "Weight movement (Frobenius)", "‖ΔW‖ / ‖W₀‖", "movement", True),
    ("layer_regime", "own_movement", "Own movement of the layer", "‖Δy‖ / ‖y₀‖, same inputs", "movement", True),
    ("layer_drift", "own", "Drift by own weights", "‖Δy‖ / ‖y₀‖", "movement", True),
    ("layer_drift", "inherited", "Drift inherited from below", "‖Δy‖ / ‖y₀‖", "movement", True),
    ("layer_drift", "interaction", "Drift by both together", "‖Δy‖ / ‖y₀‖", "movement", True),
    ("layer_drift", "total", "Drift of the output, in all", "‖Δy‖ / ‖y₀‖", "movement", True),
    ("layer_drift", "share_own", "Own share of the drift", "share of squares", "movement"),
    ("mode_regime", "strongest", "Strongest mode of adjacent layers", "s / (σ² w)", "movement", True),
    ("mode_regime", "rich", "Map in rich modes", "share of s²", "movement"),
    ("mode_regime", "lazy", "Map in lazy modes", "share of s²", "movement"),
    ("time_regime", "fit_time", "Training samples fitted at", "steps", "movement"),
    ("time_regime", "test_time", "Test samples learned at", "steps", "movement"),
    ("time_regime", "delay", "Test samples learned, over fitted", "ratio of steps", "movement"),
    ("time_regime", "fastest_time", "Kernel turned fastest at", "steps", "movement"),
    ("time_regime", "turn_at_fit", "Kernel's turn at the fit", "radians", "movement"),
    ("time_regime", "furthest_turn", "Kernel's furthest turn", "radians", "movement"),
    ("time_regime", "late_share", "Share of the turn after the fit", "share (0 to 1)", "movement"),
    ("time_regime", "silent_log_ratio", "Alignment before the fall of the loss", "ln of times", "movement"),
    ("balance_drift", "drift", "Balance of adjacent layers broken", "‖ΔB‖ / ‖W‖²", "movement", True),
    ("representation_change", "", "Representation change", "change", "movement"),
    ("activation_stability", "stability", "Units on the same side as before", "share (0 to 1)", "movement"),
    ("linearisation_gap", "gap", "Linearisation gap", "share of the change", "movement"),
    ("kernel_demand", "demand", "Kernel demand", "decades", "movement"),
    ("kernel_demand", "on_target", "Kernel demand on the target", "decades", "movement"),
    ("cka_linear_unbiased", "", "CKA {with itself before training}", "unbiased linear CKA", "movement"),
    ("cka_linear_biased", "", "CKA {with itself before training}, biased", "biased linear CKA", "movement"),
    ("rsa_squared_euclidean", "cosine", "RSA {with itself before}, squared", "cosine", "movement"),
    ("rsa_squared_euclidean", "correlation", "RSA {with itself before}, squared", "correlation", "movement"),
    ("rsa_squared_euclidean", "spearman", "RSA {with itself before}, squared", "Spearman", "movement"),
    ("rsa_squared_euclidean", "rho_a", "RSA {with itself before}, squared", "rho-a", "movement"),
    ("rsa_squared_euclidean", "kendall_tau_a", "RSA {with itself before}, squared", "tau-a", "movement"),
    ("rsa_squared_euclidean", "whitened_cosine", "RSA {with itself before}, squared", "whitened cosine", "movement"),
    ("rsa_correlation_distance", "cosine", "RSA {with itself before}, correlation", "cosine", "movement"),
    ("rsa_correlation_distance", "correlation", "RSA {with itself before}, correlation", "correlation", "movement"),
    ("rsa_correlation_distance", "spearman", "RSA {with itself before}, correlation", "Spearman", "movement"),
    ("rsa_correlation_distance", "rho_a", "RSA {with itself before}, correlation", "rho-a", "movement"),
    ("rsa_correlation_distance", "kendall_tau_a", "RSA {with itself before}, correlation", "tau-a", "movement"),
    (
        "rsa_correlation_distance",
        "whitened_cosine",
        "RSA {with itself before}, correlation",
        "whitened cosine",
        "movement",
    ),
    ("cka_rbf_unbiased", "", "CKA {with itself before training}, Gaussian", "unbiased Gaussian CKA", "movement"),
    ("procrustes_distance", "", "Procrustes distance {to itself before}", "distance (0 to √2)", "movement"),
    ("shape_distance", "", "Size-and-shape distance {to itself before}", "distance", "movement", True),
    ("shape_angle", "", "Shape angle {to itself before}", "radians", "movement"),
    ("cca_mean", "", "Mean canonical correlation {with itself before}", "correlation", "movement"),
    ("cca_mean_squared", "", "Mean squared CCA {with itself before}", "squared correlation", "movement"),
    ("svcca", "", "SVCCA {with itself before training}", "correlation", "movement"),
    ("pwcca", "", "PWCCA {with itself before training}", "correlation", "movement"),
    ("linear_regression_r2", "", "Linear fit {of itself before}, in sample", "R²", "movement"),
    ("linear_predictivity_r2", "", "Linear prediction {of itself before}, held out", "R²", "movement"),
    ("neighbour_jaccard", "", "Neighbours kept, Jaccard index", "share (0 to 1)", "movement"),
    ("mutual_knn", "", "Nearest neighbours kept", "share (0 to 1)", "movement"),
)


def _entry(measure: str, quantity: str, title: str, axis: str, group: str, log: bool = False) -> Entry:
    """An entry of a row.

    >>> _entry("cka", "", "CKA {with itself before training}, biased", "CKA", "movement").title
    'CKA with itself before training, biased'
    """
    before, brace, rest = title.partition("{")
    two, _, after = rest.partition("}")
    around = (before, after) if brace else None
    return Entry(measure, quantity or measure, before + two + after, axis, group, log, around)


CATALOGUE = tuple(_entry(*row) for row in _ROWS)  # type: ignore[arg-type]

# Drawn or named inside other figures, not in their own panels: floors are lines in the panels of their quantities, the
# ranks between which a power law was fitted mean little as a line, and the verdict over time has its own section.
ELSEWHERE = frozenset({
    ("capacity", "alignment_floor"), ("capacity", "capacity_floor"),
    ("power_law_exponent", "first_rank"), ("power_law_exponent", "last_rank"),
    ("cross_validated_spectrum", "first_rank"), ("cross_validated_spectrum", "last_rank"),
})  # fmt: skip
# Numbers that say nearly the same as another one on the page, or how well it could be determined: closed at first.
MINOR = frozenset({
    ("capacity", "capacity_faces"), ("capacity", "radius_mean"), ("capacity", "simulated_capacity"),
    ("capacity", "frac_inside"), ("capacity", "frac_nonseparable"), ("simulated_capacity", "frac_nonseparable"),
    ("participation_ratio", "participation_ratio"), ("power_law_exponent", "r2"), ("cross_validated_spectrum", "r2"),
    ("kernel_distance", "distance"), ("weight_movement", "frobenius"), ("cka_linear_biased", "cka_linear_biased"),
    ("representation_change", "representation_change"),
})  # fmt: skip
SIMILARITIES = {
    "cka_linear_unbiased": "unbiased linear CKA", "cka_linear_biased": "biased linear CKA",
    "spearman": "Spearman's ρ", "rho_a": "rank correlation ρₐ", "kendall_tau_a": "Kendall's τₐ",
    "whitened_cosine": "whitened cosine",
}  # fmt: skip
ELSEWHERE_MEASURES = frozenset({"location", "time_regime"})


def floor_of(entry: Entry) -> tuple[str, str] | None:
    """The (measure, quantity) that is the floor of a quantity's panel, if it has one.

    >>> floor_of(Entry("capacity", "capacity", "", "", "classes")), floor_of(Entry("two_nn", "two_nn", "", "", "other"))
    (('capacity', 'capacity_floor'), None)
    """
    if entry.group == "alignment":
        return "capacity", "alignment_floor"
    low = entry.measure == "capacity" and entry.quantity in ("capacity", "capacity_faces", "simulated_capacity")
    return ("capacity", "capacity_floor") if low else None


def is_minor(entry: Entry) -> bool:
    """Whether a quantity's panel adds little to those beside it."""
    return (entry.measure, entry.quantity) in MINOR


def entries(present: Iterable[tuple[str, str]], change: bool) -> list[Entry]:
    """The entries of the (measure, quantity) pairs that are there: catalogued ones in their order, then the others.

    Args:
        change: the pairs are of a change from initial to trained, so unknown ones belong to "movement".

    >>> [e.title for e in entries([("mine", "mine"), ("two_nn", "two_nn")], change=False)]
    ['Intrinsic dimension (TwoNN)', 'mine']
    """
    left = {p for p in present if p not in ELSEWHERE and p[0] not in ELSEWHERE_MEASURES}
    known = [e for e in CATALOGUE if (e.measure, e.quantity) in left]
    left -= {(e.measure, e.quantity) for e in known}
    return known + [_unlisted(m, q, "movement" if change else "other") for m, q in sorted(left)]


def title_of(measure: str, quantity: str, two: str = "") -> str:
    """Plain title of a quantity.

    Args:
        two: words for the two that a number of two is of, if they are not a layer before and after training.

    >>> title_of("two_nn", "two_nn", "between areas"), title_of("new_one", "part")
    ('Intrinsic dimension (TwoNN)', 'new one: part')
    >>> title_of("cka_linear_unbiased", "cka_linear_unbiased", "between areas")
    'CKA between areas'
    """
    found = next((e for e in CATALOGUE if (e.measure, e.quantity) == (measure, quantity)), None)
    if found is None:
        return _unlisted(measure, quantity, "other").title
    return two.join(found.around) if two and found.around else found.title


def similarity_words(name: str) -> str:
    """Words for a similarity of layers or of dissimilarity matrices; its own name where that is words already.

    >>> similarity_words("cka_linear_unbiased"), similarity_words("cosine")
    ('unbiased linear CKA', 'cosine')
    """
    return SIMILARITIES.get(name, name)


def axis_of(measure: str, quantity: str) -> str:
    """What an axis of a quantity says: its unit.

    >>> axis_of("linear_probe_accuracy", "linear_probe_accuracy")
    'share right'
    """
    found = [e.axis for e in CATALOGUE if (e.measure, e.quantity) == (measure, quantity)]
    return found[0] if found else _unlisted(measure, quantity, "other").axis


def _unlisted(measure: str, quantity: str, group: str) -> Entry:
    words = measure.replace("_", " ")
    title = words if quantity == measure else f"{words}: {quantity.replace('_', ' ')}"
    return Entry(measure, quantity, title, _unit(measure, quantity), group)


def _unit(measure: str, quantity: str) -> str:
    from geomfeat.registry import available

    for known in available():
        if known.name == measure and quantity in known.quantities:
            return known.quantities[quantity].unit or "value"
    return "value"

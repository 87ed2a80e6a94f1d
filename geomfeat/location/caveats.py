"""Flags of a location: sentences that say what limits its numbers."""

from __future__ import annotations

import numpy as np

from geomfeat.location.initial_states import Observed, Start
from geomfeat.location.regimes import BY_OPTIMIZER
from geomfeat.location.result import Location
from geomfeat.location.training_caveats import training_flags
from geomfeat.models.reinitialize import batchnorm_modules
from geomfeat.models.sources.drawn_parts import drawn_parts
from geomfeat.regimes.linearization.guided_response import PRECISE
from geomfeat.tangent.tangent_space import GIVEN, HINTED, MOVED, RATED, TangentSpace

# An excess above this in the lazy range is more than too few probes explain.
EXCESS_OF_NOTE = 0.3
STILL_RISING = 0.1
POOR_FIT = 0.9
OUT_OF_REACH = 0.1
UNSETTLED = 0.02


def flags_of(
    location: Location,
    start: Start,
    observed: Observed,
    *,
    loss: str | None,
    own_reset: bool,
    trained: TangentSpace | None = None,
) -> tuple[str, ...]:
    """All flags of a location, in order of weight. `trained`: the parameters that training moved."""
    found = [
        _frozen(start),
        _drawn_anew(start),
        _tangent(start.space if trained is None else trained),
        _left_out(start),
        _unread(observed),
        _no_first_order(start),
        _floor(location),
        _own_reset(own_reset, location),
        *training_flags(location, start, observed),
        _excess(location),
        _mixed(location),
        _fit(start, observed, location.tier == "initial"),
        _loss(loss),
        _batchnorm(start, observed),
        _probes(location),
        _reach(start),
        _convergence(start),
        _projections(start),
        _ladder(location),
    ]
    return (*(text for text in found if text), *map(_sentence, start.task.f.notes))


def _sentence(note: str) -> str:
    return f"{note[:1].upper()}{note[1:]}."


def _frozen(start: Start) -> str:
    if not start.all_frozen:
        still = sorted(start.demand.frozen, key=list(start.demand.layers).index)
        return f"Frozen, and left out of every mean: {_some(still)}, whose features did not move." if still else ""
    return (
        "Frozen: no feature of the hidden layers moved, so they learned nothing, and as far as they matter the network "
        "is linear in the trained parameters. R is the movement that this change of the function would have required "
        "with every parameter free to move."
    )


def _drawn_anew(start: Start) -> str:
    names = drawn_parts(start.model)
    if not names:
        return ""
    return (
        f"Fresh draw in the start: the pretrained weights lack {_some(list(names))}, so these are not the values that "
        "training began from. Give the network as it was before training as initial=, or draw them a few times and "
        "report the spread of R."
    )


_SOURCES = {
    MOVED: "those whose values differ before and after training",
    GIVEN: "as params= says",
    RATED: "those that the optimizer moves",
    HINTED: "those of the trained network that require a gradient, which is a guess: without the initial weights it is "
    "unknown which moved (name them by params=). The others are assumed unchanged by training",
}


def _tangent(trained: TangentSpace) -> str:
    if trained.whole or trained.source not in _SOURCES:
        return ""
    return f"Tangent space: {trained.words}, {_SOURCES[trained.source]}."


def _no_first_order(start: Start) -> str:
    names = [n for n, r in start.demand.layers.items() if r == -np.inf < start.movement.get(n, -np.inf)]
    if not names:
        return ""
    return (
        f"No demand on {_some(names)}: at the initial weights no trained parameter moves them to first order (a weight "
        "after them starts at zero, or only running statistics changed), so R is minus infinity there although they "
        "moved. Use M, or an initial checkpoint some steps into training."
    )


def _left_out(start: Start) -> str:
    if not start.left_out:
        return ""
    return (
        f"Left out: {_some(list(start.left_out))}, zero on every probe at the start, so movement relative to its "
        "size is undefined. Name layers after such a branch to see what it changed."
    )


def _unread(observed: Observed) -> str:
    if not observed.unread:
        return ""
    return (
        f"Left out: {_some(list(observed.unread))}, whose output is not a row of finite real numbers for each sample "
        "(whole or complex numbers, nothing, infinite values, or one value for all samples)."
    )


def _floor(location: Location) -> str:
    if not location.at_most or location.floor is None:
        return ""
    return (
        f"At the floor: two random initialisations already differ by a demand of {location.floor:+.2f} decades, so R "
        f"is an upper bound (at most {location.high:+.2f}). Give the initial checkpoint to locate the model itself."
    )


def _own_reset(own_reset: bool, location: Location) -> str:
    if not own_reset or location.tier == "initial":
        return ""
    return (
        "Fresh weights were drawn by each module's own reset_parameters, which may not be how this model was "
        "initialised: give factory= (or the initial checkpoint) to be sure."
    )


def _excess(location: Location) -> str:
    if location.tier != "initial" or not location.excess > EXCESS_OF_NOTE or location.richness >= 0:
        return ""
    if location.regime == BY_OPTIMIZER:
        return ""  # said by the training's own flag
    return (
        f"Features moved more than this function required (excess {location.excess:+.2f} decades, in the lazy "
        "range). Possible causes: large learning-rate steps (a catapult), gradient noise, weight decay or drift, or "
        "far more training data than probes. More probes help only with the last of these."
    )


def _mixed(location: Location) -> str:
    regimes = location.layers["regime"]
    lazy = list(location.layers.loc[regimes == "lazy", "layer"])
    rich = list(location.layers.loc[regimes == "rich", "layer"])
    if not lazy or not rich:
        return ""
    return f"Mixed by layer: {_some(lazy)} lazy, {_some(rich)} rich."


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _fit(start: Start, observed: Observed, true_start: bool) -> str:
    labels, outputs = observed.labels, observed.outputs
    if labels is None or labels.is_floating_point() or int(labels.min()) < 0:
        return ""
    if outputs.shape[1] != int(labels.max()) + 1:
        return ""
    # A network trained with its initial outputs subtracted classifies by its change alone.
    readings = [outputs, outputs - start.outputs] if true_start else [outputs]
    accuracy = max(float((r.argmax(1).cpu() == labels.cpu()).float().mean()) for r in readings)
    if accuracy >= POOR_FIT:
        return ""
    return (
        f"Unmatched loss: the model classifies {accuracy:.0%} of the probes as labelled, so R is the demand of what "
        "it has learned so far. Compare it only with models of equal fit."
    )


def _loss(loss: str | None) -> str:
    if loss != "cross-entropy":
        return ""
    return (
        "Cross-entropy: outputs, and with them R, keep growing during training, so R depends on when training stopped. "
        "At equal loss it grows faster than the output scale (by 1.08 and 1.13 decades for a decade in two families, "
        "see geomfeat validate)."
    )


def _batchnorm(start: Start, observed: Observed) -> str:
    if not batchnorm_modules(observed.network.model):
        return ""
    how = (
        "those of the initial network were estimated on the probes, since it has none"
        if start.batchnorm_estimated
        else "those of each snapshot"
    )
    return f"BatchNorm: measured in evaluation mode with running statistics ({how})."


def _probes(location: Location) -> str:
    curve = location.by_probes
    if len(curve) < 2:
        return ""
    before, last = curve["richness"].tolist()[-2:]
    if not last - before > STILL_RISING:
        return ""
    return (
        f"R still rises by {last - before:.2f} decades from {int(curve['n_probes'].iloc[-2])} to "
        f"{int(curve['n_probes'].iloc[-1])} probes: it is a lower bound on the demand of the whole training set."
    )


def _reach(start: Start) -> str:
    share = start.demand.response.unreachable
    if share <= OUT_OF_REACH:
        return ""
    return (
        f"{share:.0%} of the change is out of reach of the linearised network, so R describes only the rest: the "
        "network has fewer parameters than the probes have outputs, or it left its linear range."
    )


def _projections(start: Start) -> str:
    if start.task.projection is None:
        return ""
    c, k = start.task.projection.shape
    return (
        f"Measured through the {k} leading directions of the change among {c} outputs, which leaves the others free. "
        "With about as many outputs as units in the last hidden layer, or more, R is too high, by .3 to .5 decades "
        f"where it was checked; the lower end of the interval allows for that. "
        f"LocateOptions(projections={c}) is exact, and slow."
    )


def _convergence(start: Start) -> str:
    response = start.demand.response
    if start.task.search is not None:
        if start.outputs_error <= PRECISE:
            return ""
        return (
            f"The search over all {start.task.change.shape[1]} outputs ended after {response.steps} products with the "
            f"kernel: R is off by about {start.outputs_error:.2f} decades at most, which its interval allows for."
        )
    if response.residual <= UNSETTLED:
        return ""
    return (
        f"The linear response had not converged after {response.steps} products with the kernel (its movement still "
        f"changed by {response.residual:.0%}): the linearised network learns part of the change very slowly, and R is "
        "a lower bound."
    )


def _ladder(location: Location) -> str:
    if location.ladder is None or location.equivalent_gamma is None:
        return ""
    good = location.ladder[location.ladder["converged"].astype(bool)]
    texts = []
    if len(good) < len(location.ladder):
        texts.append(f"{len(location.ladder) - len(good)} rungs of the ladder missed the loss and were left out.")
    low, high = float(np.min(good["gamma"])), float(np.max(good["gamma"]))
    if not low <= location.equivalent_gamma <= high:
        texts.append(f"The equivalent gamma lies outside the rungs ({low:.2g} to {high:.2g}): extrapolated at slope 1.")
    return " ".join(texts)

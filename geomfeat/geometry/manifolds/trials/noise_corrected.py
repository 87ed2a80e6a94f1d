"""What `noise_corrected_capacity` returns: every number without trial noise, with noise, and for two controls."""

from dataclasses import dataclass
from typing import Any

from geomfeat.charts import Plot
from geomfeat.display import PlottableResult, marks_chart
from geomfeat.geometry.manifolds.resampling.data_errors import Resampled
from geomfeat.geometry.manifolds.result import Capacity
from geomfeat.types import Estimate


@dataclass(frozen=True, eq=False, repr=False)
class NoiseCorrectedCapacity(PlottableResult):
    """Capacity and geometry of classes of stimuli as they are without trial noise.

    Attributes:
        estimates: name -> Estimate, for capacity, capacity_faces, dimension, radius, radius_mean, utility and the three
            alignments. The error is over draws and trials, and a fifth of the correction in quadrature. An estimate
            that the trials do not determine is not ok, NaN, and says why.
        measured: the capacity of the means over all trials of each stimulus, noise included. shuffled: the same points
            with the stimuli dealt to the classes at random. noise: the same if the stimuli did not differ at all, and
            their means by the noise of their trials alone.
        reliability: share of the measured variance between the stimuli of a class that is signal.
        repeats: fewest and most trials (or groups of trials) of a stimulus.
        resampled: the numbers without each part of the trials, None where there is no error over trials.
        errors_over: what errors are over, in words. notes: what limits these numbers, in sentences.

    `to_frame()`: one row for each number: quantity, value, stderr, ok, note, measured, measured_stderr, shuffled,
    noise.
    """

    estimates: dict[str, Estimate]
    measured: Capacity
    shuffled: Capacity
    noise: Capacity
    reliability: float
    repeats: tuple[int, int]
    resampled: Resampled | None
    errors_over: str
    notes: tuple[str, ...] = ()

    @property
    def capacity(self) -> float:
        """Capacity without trial noise."""
        return self.estimates["capacity"].value

    @property
    def capacity_se(self) -> float | None:
        """Its standard error."""
        return self.estimates["capacity"].stderr

    def _columns(self) -> dict[str, Any]:
        names = list(self.estimates)
        found = [self.estimates[name] for name in names]
        return {
            "quantity": names,
            "value": [one.value for one in found],
            "stderr": [one.stderr for one in found],
            "ok": [one.ok for one in found],
            "note": [one.note for one in found],
            "measured": [getattr(self.measured, name) for name in names],
            "measured_stderr": [getattr(self.measured, f"{name}_se") for name in names],
            "shuffled": [getattr(self.shuffled, name) for name in names],
            "noise": [getattr(self.noise, name) for name in names],
        }

    def _chart(self) -> Plot:
        own = self.estimates["capacity"]
        others = (self.measured, self.shuffled, self.noise)
        values = [own.value, *(one.capacity for one in others)]
        errors = [own.stderr, *(one.capacity_se for one in others)]
        names = ("without noise", "measured", "shuffled labels", "noise alone")
        return marks_chart("Capacity without trial noise, and its controls", "capacity", names, values, errors)

    def __str__(self) -> str:
        low, high = self.repeats
        repeats = str(low) if low == high else f"{low} to {high}"
        lines = [
            f"Capacity of {len(self.measured.classes)} classes without trial noise, {repeats} repeats, "
            f"reliability {self.reliability:.2f}; +- one standard error over {self.errors_over}",
            f"  {'':22}{'corrected':>20}{'measured':>12}{'shuffled':>12}{'noise alone':>12}",
        ]
        for name, one in self.estimates.items():
            value = f"{one.value:.4g} +- {one.stderr:.2g}" if one.ok and one.stderr is not None else "not recovered"
            rest = (getattr(c, name) for c in (self.measured, self.shuffled, self.noise))
            lines.append(f"  {name:22}{value:>20}" + "".join(f"{other:12.4g}" for other in rest))
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    __repr__ = __str__

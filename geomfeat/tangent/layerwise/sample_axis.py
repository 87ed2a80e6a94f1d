"""Where the samples are in a tensor of a batched pass: from passes of two sizes and one sample's gradient."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class SampleAxis:
    """The axis that holds the samples, `per` entries of each: sample by sample, or entry by entry (`minor`)."""

    axis: int
    per: int
    minor: bool

    def split(self, t: Tensor) -> Tensor:
        """(samples, entries, the other axes in order)."""
        t = t.movedim(self.axis, 0)
        n, rest = t.shape[0] // self.per, t.shape[1:]
        return t.reshape(self.per, n, *rest).transpose(0, 1) if self.minor else t.reshape(n, self.per, *rest)

    def fits(self, shape: tuple[int, ...], n: int) -> bool:
        """Whether a tensor of this shape can hold n samples so."""
        return len(shape) > self.axis and shape[self.axis] == n * self.per


def sample_axes(two: tuple[int, ...], three: Tensor, chosen: int) -> list[SampleAxis]:
    """What fits as the axis of the samples: none, one, or both orders of samples and entries.

    Args:
        two: the shape with two samples. three: with three, the gradient of the outputs of sample `chosen` alone.
    """
    if len(two) != three.ndim:
        return []
    grown = [i for i, (a, b) in enumerate(zip(two, three.shape, strict=True)) if a != b]
    if len(grown) != 1 or two[grown[0]] * 3 != three.shape[grown[0]] * 2:
        return []
    per = three.shape[grown[0]] // 3
    found = [s for s in (SampleAxis(grown[0], per, False), SampleAxis(grown[0], per, True)) if _only(three, s, chosen)]
    # Of one entry each, both are the same. Both fit a gradient of zero too (a dead layer).
    return found[:1] if per == 1 else found


def _only(gradient: Tensor, samples: SampleAxis, chosen: int) -> bool:
    parts = samples.split(gradient)
    return not any(bool(parts[i].any()) for i in range(3) if i != chosen)

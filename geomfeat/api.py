"""The notebook surface: one call from a trained network to a table, a location and a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geomfeat.activations.layer_selection import Patterns
from geomfeat.comparison.models._compare import compare_models
from geomfeat.comparison.models.result import ModelComparison
from geomfeat.geometry.rsa import RDMs
from geomfeat.models.functional import Inputs, Readout
from geomfeat.study import Study, run_study
from geomfeat.types import Representation, Snapshot


class Results(Study):
    """A `Study` that can draw itself: `.table`, `.location`, `.arrays`, `.settings`, `.save(dir)`, `.to_html(path)`."""

    def to_html(self, path: str | Path) -> Path:
        """Write the self-contained page of this study to `path`; returns the path."""
        return compare_page([self], path)


def analyze(
    trained: nn.Module | Snapshot,
    inputs: Inputs,
    labels: Any = None,
    *,
    initial: nn.Module | Snapshot | None = None,
    layers: Patterns = "*",
    measures: Sequence[str] | str | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    factory: Callable[[], nn.Module] | None = None,
    ladder: Any = None,
    checkpoints: Mapping[Any, Any] | None = None,
    name: str = "model",
    conditions: Mapping[str, Any] | None = None,
    reduce: str | Callable[[Tensor], Tensor] = "flatten",
    project: str | int | None = "auto",
    batch_size: int = 256,
    readout: Readout | str | None = None,
    location: bool | Mapping[str, Any] = True,
    umap: bool | str = True,
    evaluate: Mapping[str, Any] | None = None,
    progress: bool = True,
    resume: str | Path | None = None,
    groups: Any = None,
) -> Results:
    """Measure what a network has learned, layer by layer, and locate it between lazy and rich.

    Args:
        trained: the network after training. initial: before it, if its weights are known; without them `factory`
            (or each module's own reset) draws fresh ones for the location; what compares with the start is left out.
        inputs: a few hundred samples, best of the training set; a tensor, tuple or mapping, samples first, or a
            DataLoader or Dataset in a fixed order.
        labels: (n,) classes; default those of the batches, if any. groups: (n,) which samples belong together, or None.
        layers, measures: patterns and names; default all hidden layers, all measures.
        The rest: see `geomfeat.study.run_study`.

    Returns Results: `.table` (one row per number), `.location`, `.to_html(path)`, `.save(dir)`.
    Raises BadInput, before any work, for what cannot be used.

    >>> from geomfeat.models import build
    >>> start, end = build("mlp", seed=0), build("mlp", seed=0)
    >>> with torch.no_grad(): _ = end[-1].weight.mul_(2)
    >>> found = analyze(end, torch.randn(30, 64), initial=start, measures="stable_rank", umap=False, progress=False)
    >>> found.location.tier
    'initial'
    """
    study = run_study(
        trained, inputs, labels, initial=initial, layers=layers, measures=measures, seed=seed, device=device,
        factory=factory, ladder=ladder, checkpoints=checkpoints, name=name, conditions=conditions, reduce=reduce,
        project=project, batch_size=batch_size, readout=readout, location=location, umap=umap, evaluate=evaluate,
        progress=progress, resume=resume, groups=groups,
    )  # fmt: skip
    return Results(study.name, study.table, study.location, study.arrays, study.settings)


class Comparison(ModelComparison):
    """A `ModelComparison` that can draw itself: `.model_similarity`, `.matches`, `.profiles`, `.ranking`, ..."""

    def to_html(self, path: str | Path) -> Path:
        """Write the self-contained page of this comparison to `path`; returns the path."""
        from geomfeat.report.pages.comparison import write_comparison  # brings plotly

        return write_comparison(self, path)

    def __str__(self) -> str:
        from geomfeat.report.pages.comparison import answers

        return " ".join([f"{len(self.names)} models, {len(self.layers)} layers.", *answers(self)])


def compare(
    models: Mapping[str, nn.Module | Snapshot | Mapping[str, Representation] | RDMs],
    inputs: Inputs | None = None,
    labels: Any = None,
    *,
    layers: Patterns | Mapping[str, Patterns] = "*",
    similarity: str = "cka_linear_unbiased",
    measures: Sequence[str] | str | None = None,
    brain: RDMs | Mapping[str, RDMs] | None = None,
    comparator: str = "rho_a",
    n_draws: int = 200,
    n_bootstrap: int = 1000,
    seed: int = 0,
    device: str | torch.device | None = None,
    reduce: str | Callable[[Tensor], Tensor] = "flatten",
    project: str | int | None = "auto",
    batch_size: int = 256,
    readout: Readout | None = None,
    umap: bool = False,
    progress: bool = True,
) -> Comparison:
    """Compare networks, recordings and brains, layer by layer and as wholes, on the same samples and the same draws.

    Args:
        models: name -> a network, features (layer -> Representation), or RDMs; all of the same samples in order.
        inputs: n samples, samples first, or a DataLoader or Dataset in a fixed order; needed for networks.
        labels: (n,) classes, for the capacity; default those of the batches, if any.
        brain: RDMs of subjects, or name -> RDMs, over the same samples, by which the layers are ranked.
        The rest: see `geomfeat.comparison.models._compare.compare_models`.

    Returns Comparison: similarity of layers and models, best matches, maps, profiles over relative depth, the ranking
    with its noise ceiling; `.to_html(path)`, `.save(dir)`.
    Raises BadInput, before any comparison, for what cannot be compared.

    >>> from geomfeat.models import build
    >>> models = {"a": build("mlp", seed=0), "b": build("mlp", seed=1)}
    >>> found = compare(models, torch.randn(20, 64), measures=["stable_rank"], progress=False)
    >>> found.model_similarity.shape, sorted(found.profiles["model"].unique())
    ((2, 2), ['a', 'b'])
    """
    found = compare_models(
        models, inputs, labels, layers=layers, similarity=similarity, measures=measures, brain=brain,
        comparator=comparator, n_draws=n_draws, n_bootstrap=n_bootstrap, seed=seed, device=device, reduce=reduce,
        project=project, batch_size=batch_size, readout=readout, umap=umap, progress=progress,
    )  # fmt: skip
    return Comparison(**vars(found))


def compare_page(studies: Study | Sequence[Study], path: str | Path, *, title: str | None = None) -> Path:
    """One self-contained HTML page of one study, or of several side by side; returns the path.

    Raises BadInput for no studies, or two of one name.
    """
    from geomfeat.report.pages import write_page  # brings plotly

    return write_page(studies, path, title=title)

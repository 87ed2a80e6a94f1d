"""`geomfeat demo`: a complete example on embedded data, from training at known richness to a comparison page.

Two small networks learn the same digits from the same initial weights at three output scales gamma, to the same loss:
lazy, middle and rich by construction. Each is then analyzed as `geomfeat analyze` does.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geomfeat.cli import options
from geomfeat.cli._app import app, command
from geomfeat.cli._output_folder import PAGE

if TYPE_CHECKING:
    from geomfeat.location.reference_ladder import Ladder
    from geomfeat.study import Study

logger = logging.getLogger(__name__)

FACTORIES = {"mlp": "geomfeat.models.mlp:mlp", "cnn": "geomfeat.models.cnn:cnn"}
STRENGTHS = {"lazy": 0.03, "middle": 1.5, "rich": 30.0}
RUNGS = (0.02, 0.3, 4.0, 50.0)
N_TRAIN, TARGET_LOSS, SEED = 200, 0.05, 0
TABLE, LOCATION, DATA, RECIPE = "results.parquet", "location.json", "digits.npz", "demo.json"


@dataclass(frozen=True)
class Case:
    """One model of the demonstration: an architecture at a strength of feature learning, and its files."""

    architecture: str
    strength: str
    out: Path

    @property
    def name(self) -> str:
        return f"{self.architecture} {self.strength}"

    @property
    def initial(self) -> Path:
        return self.out / "models" / f"{self.architecture}-initial.safetensors"

    @property
    def trained(self) -> Path:
        return self.out / "models" / f"{self.architecture}-{self.strength}.safetensors"

    @property
    def optimizer(self) -> Path:
        return self.out / "models" / f"{self.architecture}-{self.strength}-optimizer.safetensors"

    @property
    def ladder(self) -> Path:
        return self.out / "models" / f"{self.architecture}-ladder.json"

    @property
    def folder(self) -> Path:
        return self.out / f"{self.architecture}-{self.strength}"


@app.command()
def demo(
    out: Annotated[Path, options.path("Folder for models, results and the page.")] = Path("runs/demo"),
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train small networks at three strengths of feature learning, analyze and compare them: a complete example."""
    with command(debug, f"Finished parts are saved; to resume: geomfeat demo --out {out}"):
        from geomfeat.report.content import location_table

        studies = run_demo(out, progress=not quiet)
        typer.echo(location_table(studies))
        typer.echo(f"\nknown output scales: {', '.join(f'{k} gamma = {v:g}' for k, v in STRENGTHS.items())}")
        for study in studies:
            where = study.location
            if where is not None and where.equivalent_gamma is not None:
                typer.echo(f"  {study.name}: gamma interpolated from the ladder {where.equivalent_gamma:.3g}")
        typer.echo(f"\npage: {out / PAGE}")


def run_demo(out: Path, *, progress: bool = True) -> list[Study]:
    """Train, save, analyze and compare; finished parts in `out` are reused. Returns the six studies.

    Writes models/*.safetensors, a folder for each model, and report.html, results.parquet, location.json of all.
    Raises OutputExists where `out` holds a demo of another version.
    """
    import pandas as pd

    from geomfeat._numba.threads import libraries_on_one_thread
    from geomfeat.api import compare_page
    from geomfeat.storage.atomic import write_parquet
    from geomfeat.storage.owned_files import marked, replace_file, require_own

    _require_recipe(out)
    require_own(out / name for name in (TABLE, LOCATION, PAGE))
    data = _data(out)
    cases = [Case(architecture, strength, out) for architecture in FACTORIES for strength in STRENGTHS]
    # The networks are small: at every product, the libraries' threads would mostly wait for each other.
    with libraries_on_one_thread():
        studies = _studies(cases, data, progress)
    table = pd.concat([study.table for study in studies], ignore_index=True)
    # The keys of this file are model names, so the mark that geomfeat wrote it is inside each entry.
    places = {
        study.name: marked({} if study.location is None else json.loads(study.location.to_json())) for study in studies
    }
    replace_file(out / TABLE, lambda path: write_parquet(path, table))
    replace_file(out / LOCATION, lambda path: path.write_text(json.dumps(places, indent=2), encoding="utf-8"))
    compare_page(studies, out / PAGE, title="geomfeat demo: digits at three strengths of feature learning")
    return studies


def _studies(cases: list[Case], data: dict[str, Any], progress: bool) -> list[Study]:
    """Train what is not saved, models and ladders, then analyze each model."""
    from tqdm import tqdm

    from geomfeat.cli.analyze import analyzed

    for _ in tqdm(_trainings(cases, data), total=len(cases), desc="train", disable=not progress):
        pass
    for architecture in FACTORIES:
        _ladder(next(case for case in cases if case.architecture == architecture), data, progress)
    shown = tqdm(cases, desc="analyze", disable=not progress)
    return [analyzed(_request(case), case.folder, progress=progress)[0] for case in shown]


def _request(case: Case) -> dict[str, Any]:
    """The request of `geomfeat analyze` for this model."""
    return {
        "name": case.name, "model": FACTORIES[case.architecture], "trained": case.trained, "initial": case.initial,
        "checkpoints": None, "data": f"npz:{case.out / DATA}", "n": 0, "seed": SEED, "layers": None, "measures": None,
        "ladder": str(case.ladder), "loss": "mse", "device": "cpu", "reduce": "flatten", "project": "auto",
        "umap_layer": None, "readout": None, "optimizer": case.optimizer if case.optimizer.is_file() else None,
    }  # fmt: skip


def _require_recipe(out: Path) -> None:
    """Save the settings of this demo, or raise OutputExists for a folder with another demo."""
    from geomfeat._version import __version__
    from geomfeat.errors import BadInput, OutputExists
    from geomfeat.storage.owned_files import json_text, make_folder, marked, replace_file, require_own

    recipe = {
        "version": __version__, "strengths": STRENGTHS, "rungs": list(RUNGS), "n_train": N_TRAIN,
        "target_loss": TARGET_LOSS, "seed": SEED,
    }  # fmt: skip
    if out.exists() and not out.is_dir():
        raise BadInput(f"--out {str(out)!r} is a file: name a folder")
    path = out / RECIPE
    require_own([path])
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != marked(recipe):
        raise OutputExists(f"--out {str(out)!r} holds a demo of another version or other settings: name another folder")
    make_folder(out / "models")
    replace_file(path, lambda draft: draft.write_text(json_text(recipe, indent=2), encoding="utf-8"))


def _data(out: Path) -> dict[str, Any]:
    """The training and test digits, also written to the npz file that the analyses read."""
    import numpy as np

    from geomfeat.data._load_data import load_data
    from geomfeat.storage.npz_files import write_arrays
    from geomfeat.storage.owned_files import replace_file

    whole = load_data("digits")
    part = whole.subsample(N_TRAIN, SEED)
    arrays = {
        "x": part.inputs.numpy(), "y": np.asarray(part.labels),
        "x_test": whole.test_inputs.numpy(), "y_test": np.asarray(whole.test_labels),
    }  # fmt: skip
    if not (out / DATA).is_file():
        replace_file(out / DATA, lambda path: write_arrays(path, arrays))
    return {"x": part.inputs, "y": part.labels}


def _trainings(cases: list[Case], data: dict[str, Any]) -> Iterator[Case]:
    """Train every case without saved weights. All cases of an architecture share their initial weights."""
    from geomfeat.models.weights.checkpoints import load_factory, save_weights
    from geomfeat.regimes.training import train_at_gamma

    for case in cases:
        start = load_factory(FACTORIES[case.architecture])
        if not case.initial.is_file():
            from geomfeat.models.reinitialize import fresh

            save_weights(fresh(start, SEED, 0), case.initial)
        if not case.trained.is_file():
            trained = train_at_gamma(
                _initial(case), data["x"], data["y"], gamma=STRENGTHS[case.strength], target_loss=TARGET_LOSS, seed=SEED
            )
            if not trained.converged:
                logger.warning("%s stopped at relative loss %.3g: %s", case.name, trained.train_loss, trained.note)
            if trained.rates is not None:  # saved first: where there are weights, there are rates
                trained.rates.save(case.optimizer)
            save_weights(trained.model, case.trained)
        yield case


def _initial(case: Case) -> Any:
    from geomfeat.models.weights.checkpoints import load_factory, load_weights

    return load_weights(load_factory(FACTORIES[case.architecture])(), case.initial)


def _ladder(case: Case, data: dict[str, Any], progress: bool) -> Ladder:
    """The architecture's ladder: four rungs over three decades of gamma, shared by its three models."""
    from geomfeat.location.reference_ladder import Ladder, train_ladder

    if case.ladder.is_file():
        return Ladder.load(case.ladder)
    made = train_ladder(
        _initial(case), data["x"], data["y"], RUNGS, target_loss=TARGET_LOSS, seed=SEED, progress=progress
    )
    made.save(case.ladder)
    return made

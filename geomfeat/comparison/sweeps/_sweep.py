"""A sweep from its config to one table: plan, resume, run on an engine, load."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import pandas as pd
import pyarrow as pa
from tqdm import tqdm

from geomfeat._version import __version__
from geomfeat.charts import Curve, Plot
from geomfeat.comparison.sweeps.config import parse_config, read_config
from geomfeat.comparison.sweeps.config_checks import refuse_depths, refuse_layers, refuse_options
from geomfeat.comparison.sweeps.config_schemas import AnyConfig, SweepConfig
from geomfeat.comparison.sweeps.executors.base import Engine, RunTask
from geomfeat.comparison.sweeps.executors.registry import device_of_runs, engine_named, require_submit
from geomfeat.comparison.sweeps.folder import RUNS, Damaged, manifest_of, read_table, readable
from geomfeat.comparison.sweeps.grid import runs_of
from geomfeat.comparison.sweeps.outcomes import MISSING
from geomfeat.comparison.sweeps.run_config import RunConfig
from geomfeat.comparison.sweeps.task import COLUMN_TYPES, code_version
from geomfeat.display import PlottableResult
from geomfeat.errors import BadInput, GeomfeatError, OutputExists
from geomfeat.storage.atomic import DAMAGED, read_json, write_parquet
from geomfeat.storage.owned_files import as_path, json_text, make_folder, replace_file, require_own
from geomfeat.study.table import failed_rows, table_of

logger = logging.getLogger("geomfeat.sweep")
PLAN, RESULTS = "sweep.json", "results.parquet"
# Options of the training, the same for a whole sweep, that decide what its numbers can be held against: columns too,
# for tables of several sweeps together.
OF_TRAINING = ("momentum", "centered")
TOGETHER = 200  # tables of runs that are held apart


@dataclass(frozen=True, eq=False)
class SweepResult(PlottableResult):
    """A sweep's folder: its plan and its finished runs.

    Attributes:
        folder: with `runs/<address>/`: run.json, table.arrow, and as .safetensors init, step_*, trained, and optimizer,
            at what rates the weights moved (see `OptimizerRates`), where it was not one rate along the gradients.
        version: of the code that made it. config: the sweep's, as JSON. plan: address -> config of every training.
        errors: address -> why the last call could not make a run.

    `to_frame()`: `table`.
    """

    folder: Path
    version: str
    config: Mapping[str, Any]
    plan: Mapping[str, RunConfig]
    errors: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per number, of every training that was planned.

        Columns: run (the folder's name), seed, at ("init", "trained", "init->trained", a step or "init-><step>");
        the conditions data, architecture, width, depth, parameterization ("standard", "ntk", "mup"), sigma, eta (NaN:
        from the curvature), gamma (the output scale that was used), optimizer, batch_size (NA: full batch),
        sigma.<layer> for factors of layers, alpha, r or gamma0 where it set gamma; momentum and centred, of train; of
        networks of one's own the keywords (under "knob.<name>" where such a column is there already) and weight_decay,
        with eta the learning rate, parameterization "own", and architecture the file and the function;
        outcome; then, as in every table of geomfeat, layer, layer_b, measure, quantity, value, stderr, ok, note, n, d,
        dtype, device, seconds, options, version.

        outcome: "matched" to the target loss, "completed" (there was none), "unmatched" (budget spent), "stalled",
        "diverged", "failed" (no start), "missing" (not made yet, or an error: see note). No training is left out.
        Rows of measure "training" hold train_loss, test_loss (relative to f = 0), train_accuracy, test_accuracy,
        steps, eta (at the end), converged (1 or 0), sharpness_initial, sharpness (largest Gauss-Newton curvature)
        and stability (eta times sharpness_initial); what went wrong is in their note. Diverged and failed runs have
        a failed row for each requested number; "location" rows hold richness, low, high, movement, excess and
        those of the tangent kernel.
        """
        return self._loaded[0]

    @property
    def outcomes(self) -> dict[str, int]:
        """How many trainings had each outcome."""
        first = self.table.drop_duplicates("run")
        return {str(k): int(v) for k, v in first["outcome"].value_counts().items()}

    @property
    def damaged(self) -> dict[str, str]:
        """address -> what is wrong with a folder that was left out; the same sweep makes it again."""
        return self._loaded[1]

    @cached_property
    def _loaded(self) -> tuple[pd.DataFrame, dict[str, str]]:
        parts: list[pa.Table] = []
        tables, missing, damaged = [], {}, {}
        for address, run in self.plan.items():
            if not (self.folder / RUNS / address).is_dir():
                missing[address] = (run, self.errors.get(address, "not made yet: run the same sweep again"))
                continue
            try:
                tables.append(read_table(self.folder, address))
                if len(tables) == TOGETHER:  # each holds its file and its schema: one of many is far smaller
                    parts.append(_joined(tables).combine_chunks())
                    tables = []
            except Damaged as error:
                damaged[address] = str(error)
                missing[address] = (run, f"{error}: run the same sweep again")
        if missing:
            tables.append(pa.Table.from_pandas(_missing(missing), preserve_index=False))
        joined = _joined([*parts, *tables])
        del parts, tables
        table = readable(joined).to_pandas(self_destruct=True, split_blocks=True)
        del joined
        for name in OF_TRAINING:
            value_of = {address: getattr(run.train, name) for address, run in self.plan.items()}
            table.insert(list(table.columns).index("outcome"), name, table["run"].map(value_of))
        return table, damaged

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The sweep in `folder`, finished or not; BadInput where there is none, or its plan cannot be read."""
        folder = as_path(folder, "folder")
        if folder.exists() and not folder.is_dir():
            raise BadInput(f"{folder} is a file: name the folder that geomfeat sweep wrote")
        try:
            saved = read_json(folder / PLAN)
            plan = {address: RunConfig.model_validate(run) for address, run in saved["plan"].items()}
            if not plan or any(run.address(saved["version"]) != address for address, run in plan.items()):
                raise ValueError("its runs are not at their addresses")
            return cls(folder, saved["version"], dict(saved["config"]), plan, dict(saved["errors"]))
        except FileNotFoundError as cause:
            raise BadInput(f"{folder} holds no sweep ({PLAN} is missing): run geomfeat sweep --out {folder}") from cause
        except DAMAGED as cause:
            raise BadInput(
                f"{folder / PLAN} is truncated or corrupt ({type(cause).__name__}): run the same sweep again; finished "
                "runs are reused"
            ) from cause

    def save(self) -> None:
        """Write the plan, whole."""
        content = {
            "version": self.version, "config": dict(self.config), "errors": dict(self.errors),
            "plan": {address: run.model_dump(mode="json") for address, run in self.plan.items()},
        }  # fmt: skip
        replace_file(self.folder / PLAN, lambda path: path.write_text(json_text(content), encoding="utf-8"))

    def __str__(self) -> str:
        counts = ", ".join(f"{n} {outcome}" for outcome, n in self.outcomes.items())
        damaged = f"; {len(self.damaged)} folders damaged and left out" if self.damaged else ""
        return f"{len(self.plan)} trainings: {counts}{damaged}; {len(self.table)} numbers"

    def to_frame(self) -> pd.DataFrame:
        """The table: one row per number."""
        return self.table.copy()

    def _chart(self) -> Plot:
        known = self.table["ok"] & (self.table["measure"] == "location") & (self.table["quantity"] == "richness")
        found = self.table[known & (self.table["layer"].fillna("") == "")]
        if found.empty:
            raise BadInput("no training of this sweep was located, so there is no richness to draw: see .table")
        points = Curve("trainings", found["gamma"].tolist(), found["value"].tolist(), kind="scatter")
        return Plot("location of the trained networks", "gamma", "richness R (decades)", [points], log_x=True)


def sweep(
    config: Mapping[str, Any] | AnyConfig | str | Path,
    out: str | Path,
    *,
    engine: str = "serial",
    workers: int = 2,
    device: str | None = None,
    recompute: bool = False,
    progress: bool = True,
) -> SweepResult:
    """Train and measure every network of a sweep; an interrupted sweep resumes.

    Args:
        config: a mapping, or a YAML file; see `SweepConfig`, and for networks of one's own `OwnSweepConfig`.
        out: folder of the sweep; an enlarged sweep continues in the same folder.
        engine: "serial" (default); "dask", with `workers` processes on this machine; "tcp://...", a running dask
            scheduler whose workers see the same folder; "slurm". Numbers do not depend on it.
        device: where runs are computed, in place of the config's; with "cuda", "dask" has one process for each GPU.
        recompute: repeat runs made by another version.

    Runs that diverge, stall or miss the target loss are rows with their reason, see `SweepResult.table`.

    Raises BadInput, before any training, for a config that cannot run or a scheduler that does not answer; OutputExists
    if the runs were made by another version, if the folder holds trainings that this config lacks, and for files that
    geomfeat did not write; GeomfeatError if nothing more can be written: finished runs stay.

    >>> import tempfile
    >>> small = {"width": 8, "sigma": [0.5, 1.0], "seeds": 1, "train": {"n": 50, "target_loss": 0.5},
    ...          "measure": {"measures": ["stable_rank"], "location": False, "n": 50}}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = sweep(small, folder, progress=False)
    ...     found.outcomes
    {'matched': 2}
    """
    require_submit(engine)
    found = planned(config, out)
    check_plan(found)
    checked = parse_config(found.config)
    where = device_of_runs(engine, device or checked.device)
    todo, finished = found_in(found, where)
    if not recompute:
        check_versions(found, todo)
    run = engine_named(engine, workers, checked.slurm, where)
    make_folder(found.folder)
    found.save()
    errors = _run(run, todo, found, finished, progress) if todo else {}
    found = SweepResult(found.folder, found.version, found.config, found.plan, errors)
    found.save()
    replace_file(found.folder / RESULTS, lambda path: write_parquet(path, found.table))
    return found


def planned(config: Mapping[str, Any] | AnyConfig | str | Path, out: str | Path) -> SweepResult:
    """The sweep as it would be made in `out`; nothing is written."""
    checked = read_config(config) if isinstance(config, str | Path) else parse_config(config)
    folder, version = as_path(out, "out"), code_version()
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"out={str(folder)!r} is a file: name a folder")
    if isinstance(checked, SweepConfig):
        refuse_options(checked)
    try:
        runs = runs_of(checked)
        refuse_depths(runs)
        refuse_layers(checked, runs)
    except (RuntimeError, MemoryError) as cause:
        first = (str(cause).splitlines() or [type(cause).__name__])[0]
        raise BadInput(f"a network of this sweep cannot be built here ({first}): lower width or depth") from cause
    plan = {run.address(version): run for run in runs}
    return SweepResult(folder, version, checked.model_dump(mode="json"), plan)


def check_plan(planned: SweepResult) -> None:
    """OutputExists where the folder holds a sweep with trainings that this one lacks, or files of somebody else's.

    A plan that cannot be read is replaced: the trainings are in their own folders.
    """
    require_own(planned.folder / name for name in (PLAN, RESULTS))
    try:
        there = SweepResult.load(planned.folder) if (planned.folder / PLAN).is_file() else None
    except BadInput:
        return
    wanted = {run.identity() for run in planned.plan.values()}
    lost = [run for run in there.plan.values() if run.identity() not in wanted] if there is not None else []
    if there is not None and lost:
        first, instead = lost[0], next(iter(planned.plan.values()))
        old, new = first.model_dump(mode="json"), instead.model_dump(mode="json")
        fields = ", ".join(f"{name}={old[name]!r}" for name in old if old[name] != new.get(name))
        was, now = first.own, instead.own
        if was is not None and now is not None and was.name == now.name and was.sums != now.sums:
            fields = f"{fields}; the content of {now.model} has changed since"
        raise OutputExists(
            f"{planned.folder / PLAN} and {RESULTS} hold a sweep of {len(there.plan)} trainings, {len(lost)} of which "
            f"this config lacks (first: {fields}): choose another folder, or add to the config what it lacks; a config "
            "that only adds trainings continues in the same folder"
        )


def found_in(planned: SweepResult, device: str = "cpu") -> tuple[list[RunTask], list[dict[str, Any]]]:
    """(what is to be made: missing and damaged; manifests of what is there)."""
    todo, there, damaged = [], [], []
    for address, run in planned.plan.items():
        try:
            manifest = manifest_of(planned.folder, address)
        except Damaged as error:
            manifest = None
            damaged.append(str(error))
        if manifest is None:
            todo.append(RunTask(address, run.canonical(), device))
        else:
            there.append(manifest)
    if damaged:
        logger.warning("%d damaged runs are left out, and repeated: %s", len(damaged), damaged[0])
    return todo, there


def check_versions(planned: SweepResult, todo: Sequence[RunTask]) -> None:
    """OutputExists where another version has made runs that are still to be made."""
    wanted = {planned.plan[task.address].identity() for task in todo}
    others: Counter[str] = Counter()
    runs = planned.folder / RUNS
    for path in runs.iterdir() if wanted and runs.is_dir() else []:
        if path.name in planned.plan:
            continue
        try:
            manifest = manifest_of(planned.folder, path.name)
        except Damaged:
            continue
        if manifest and json.dumps(manifest.get("config"), sort_keys=True) in wanted:
            others[str(manifest.get("version"))] += 1
    if others:
        makers = ", ".join(f"{n} by geomfeat {version}" for version, n in others.items())
        raise OutputExists(
            f"{planned.folder} holds {others.total()} of these {len(planned.plan)} runs made by another version "
            f"({makers}; this is {planned.version}): repeat them with --recompute (recompute=True), or choose "
            "another folder"
        )


def _run(
    engine: Engine, todo: Sequence[RunTask], found: SweepResult, finished: Sequence[Any], progress: bool
) -> dict[str, str]:
    errors: dict[str, str] = {}
    total, made = len(found.plan), len(finished)
    with tqdm(total=total, initial=len(finished), desc="sweep", unit="run", disable=not progress) as bar:
        try:
            for done in engine(todo, found.folder, found.version):
                if done.error:
                    errors[done.address] = done.error
                made += not done.error
                bar.set_postfix(failed=len(errors), refresh=False)
                bar.update()
        except OSError as error:
            raise GeomfeatError(
                f"{found.folder} cannot be written: {error.strerror or error}. {made} of {total} runs "
                "are finished: free some space, then run the same command to resume"
            ) from error
    return errors


def _joined(tables: list[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables, promote_options="permissive")


def _missing(runs: Mapping[str, tuple[RunConfig, str]]) -> pd.DataFrame:
    """A row for each missing training."""
    frames = []
    for address, (run, why) in runs.items():
        conditions = {**run.conditions(), "outcome": MISSING}
        rows = failed_rows(["converged"], why, at="trained", measure="training")
        frames.append({**rows[0], "run": address, **conditions})
    first = next(iter(runs.values()))[0]
    columns = list(table_of([], run="", seed=0, conditions={**first.conditions(), "outcome": ""}, version="").columns)
    extra = [name for name in dict.fromkeys(k for frame in frames for k in frame) if name not in columns]
    table = pd.DataFrame(frames, columns=[*columns, *extra]).assign(version=__version__)
    kinds = {**COLUMN_TYPES, "n": "Int64", "d": "Int64", "value": "float64", "stderr": "float64", "seconds": "float64"}
    return table.astype({c: kind for c, kind in kinds.items() if c in table.columns})

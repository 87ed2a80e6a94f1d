"""The version of the code that a sweep's runs are stored under, and the rates that are saved with a run."""

import hashlib
from pathlib import Path

import pytest

import geomfeat
from geomfeat.comparison.sweeps import sweep, task
from geomfeat.comparison.sweeps.grid import dataset_of, network_of
from geomfeat.comparison.validation import remeasure
from geomfeat.location import LocateOptions, locate
from geomfeat.models.weights import load_weights
from geomfeat.tangent import OptimizerRates
from tests.comparison.sweeps_on_disk import tiny


def test_the_code_of_a_run_is_all_that_decides_its_numbers() -> None:
    home = Path(geomfeat.__file__).parent
    assert [name for name in task.OWN if not (home / name).is_file()] == []
    counted = [
        path.relative_to(home).as_posix()
        for path in sorted(home.rglob("*.py"))
        if path.relative_to(home).parts[0] not in task.ASIDE or path.relative_to(home).as_posix() in task.OWN
    ]
    assert {"comparison/sweeps/train.py", "regimes/training/scaled_training.py"} < set(counted)
    assert not [name for name in counted if name.startswith(("cli/", "report/", "comparison/models/"))]
    digest = hashlib.sha256()
    for name in counted:
        digest.update(f"{name}\n".encode() + (home / name).read_bytes())
    assert task.code_version() == f"{geomfeat.__version__}+{digest.hexdigest()[:12]}"


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_run_is_located_by_its_own_rates_which_are_saved_with_it_where_they_are_not_plain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    # Fewer resamples behind an interval that is not read.
    monkeypatch.setattr(remeasure, "BOOTSTRAP", 2)
    location = {"n_bootstrap": 2, "n_probes": 10}
    config = tiny(seeds=1, optimizer=optimizer, train={"n": 20}, measure={"n": 20, "location": location})
    found = sweep(config, tmp_path, progress=False)
    (address, run), *_ = found.plan.items()
    home = tmp_path / "runs" / address
    data = dataset_of(run)
    start, end = (load_weights(network_of(run, data), home / f"{name}.safetensors") for name in ("init", "trained"))
    rates = OptimizerRates.load(home / "optimizer.safetensors") if optimizer == "adam" else None
    assert len(list(home.iterdir())) == (5 if optimizer == "adam" else 4)
    seen = data.training().subsample(run.measure.n)
    again = locate(
        end, seen.inputs, initial=start, optimizer=rates, progress=False, seed=run.measure.seed,
        options=LocateOptions(n_bootstrap=2, n_probes=10),
    )  # fmt: skip
    assert again.metric == ("Adam state" if optimizer == "adam" else "plain: not known")
    rows = found.table.query("measure == 'location' and layer == '' and quantity == 'richness'")
    assert rows["value"].tolist() == [pytest.approx(again.richness, rel=1e-6)]
    plain = locate(
        end, seen.inputs, initial=start, progress=False, seed=run.measure.seed,
        options=LocateOptions(n_bootstrap=2, n_probes=10),
    )  # fmt: skip
    assert (plain.richness == again.richness) == (optimizer == "sgd")
    assert remeasure.measured_again(tmp_path, address, run)["R"] == pytest.approx(
        locate(
            end, seen.inputs, initial=start, optimizer=rates, progress=False, seed=run.seed,
            options=LocateOptions(n_probes=20, n_bootstrap=2),
        ).richness, rel=1e-6,
    )  # fmt: skip

"""The version of the code that a sweep's runs are stored under."""

import hashlib
from pathlib import Path

import geomfeat
from geomfeat.comparison.sweeps import task


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

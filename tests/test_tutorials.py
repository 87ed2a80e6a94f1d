"""Every tutorial runs from top to bottom, in a folder of its own, and draws its pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.warm_process import run_script

TUTORIALS = sorted((Path(__file__).resolve().parents[1] / "tutorials").glob("*.py"))
# What is smaller here than on the page: samples, probes, draws and layers, of which its statements hold with fewer.
SMALLER = {
    "01_locate_a_network": {'"digits", n=60': '"digits", n=30'},
    "02_manifold_capacity": {
        "N_DRAWS = 300": "N_DRAWS = 120",
        "n_draws=400": "n_draws=150",
        "on_sphere(5, 1000, d)": "on_sphere(5, 300, d)",
        "counts = [2, 4, 8, 16, 64, 256, 1024]": "counts = [2, 4, 8, 16, 64, 256]",
        "on_sphere(5, 1024, 5)": "on_sphere(5, 256, 5)",
    },
    "04_training_at_a_chosen_richness": {'"digits", n=60': '"digits", n=30'},
    "06_compare_architectures": {
        "range(1, 16, 2)": "range(1, 16, 8)",
        "n_draws=50, n_bootstrap=50": "n_draws=30, n_bootstrap=20",
    },
    "08_the_published_run": {
        '"n": 100, "max_steps": 80': '"n": 60, "max_steps": 60',
        '"n": 50, "location": {"n_probes": 16': '"n": 40, "location": {"n_probes": 8',
    },
    "11_fine_tuning": {'"digits", n=332': '"digits", n=316'},
    "12_language_model_from_scratch": {"n_probes=10": "n_probes=6"},
    "13_is_my_network_lazy_or_rich": {"else 10": "else 4"},
}
RUN = """
from pathlib import Path

__file__ = {path!r}
text = Path(__file__).read_text(encoding="utf-8")
for of_the_page, here in {smaller!r}.items():
    assert of_the_page in text, f"the page no longer says {{of_the_page}}"
    text = text.replace(of_the_page, here)
exec(compile(text, __file__, "exec"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_runs(path: Path, tmp_path: Path) -> None:
    script = tmp_path / "page.py"
    script.write_text(RUN.format(path=str(path), smaller=SMALLER.get(path.stem, {})), encoding="utf-8")
    found = run_script(script, tmp_path)
    assert found.returncode == 0, found.stderr
    pictures = list((tmp_path / "pictures").iterdir())
    assert pictures
    assert all(picture.stat().st_size > 5_000 for picture in pictures)

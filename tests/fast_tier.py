"""The tests of `make check`: python -m tests.fast_tier prints their files.

A test module is here if all of it, but for tests marked `slow`, takes less than about two seconds on one core. Every
package that has tests has one here, except those of `SLOW_ONLY`. A module that grows slower leaves the list.
"""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent
# Folder -> modules, without "test_" and ".py".
FAST = {
    "": "errors labels memory_refusals numerics precision registry snapshots types",
    "_numba": "numba_loop_cache rank_statistics threads",
    "activations": "hidden_layers layer_selection npz random_projection reduction",
    "activations/checks": "whole_run",
    "charts": "draw_bands log_ticks",
    "cli": "measures output_folder",
    "comparison/models": "compare embedding layer_matching",
    "comparison/relations": "phase_map trajectories_and_stages",
    "comparison/sweeps": "config config_checks grid",
    "comparison/validation": "other_norms slopes",
    "comparison/validation/outcomes": "foretelling networks soundness",
    "compat": "glue rsatoolbox",
    "data": "batch_streams cards content_hash dataset_classes image_files load_data pretrained_inputs resize "
    "spec_options tables tokens user_files",
    "data/tasks": "by_name neurogym_trials",
    "forecasting": "linear_training optimizer_run stable_rate",
    "forecasting/advising": "width_rates",
    "geometry/dimension": "dimension_points eigenspectrum signal_participation_ratio",
    "geometry/manifolds": "capacity_floor dichotomies glue_geometry point_clouds",
    "geometry/manifolds/cones": "span",
    "geometry/manifolds/resampling": "solved_draws",
    "geometry/manifolds/trials": "noise_control repeated_trials signal_spread",
    "geometry/manifolds/theory": "crofton_prediction",
    "geometry/probes": "linear_probe neural_collapse",
    "geometry/rsa": "copied_patterns crossnobis dissimilarity files",
    "geometry/rsa/searchlights": "volume voxel_places",
    "geometry/similarity": "cca gram kernel_change procrustes",
    "geometry/trajectories": "along_time cross_validated tangling",
    "lab": "registry",
    "location": "kernel_by_layer kernel_interval locate_inputs movement regimes unit_balance",
    "location/advice": "goal rescaling",
    "location/movement_only": "weight_change",
    "location/planning": "plan",
    "measures/layer": "d_lr label_alignment linear_probe_accuracy nc1 replica_capacity",
    "measures/network": "feature_movement layer_drift linearisation_gap weight_movement",
    "measures/pair": "pair_rsa pair_similarities representation_change",
    "models": "copying effective_weights functional modules one_network outputs recurrent refused_inputs reinitialize "
    "zoo",
    "models/forward_passes": "contexts",
    "models/readouts": "named",
    "models/sources": "adapters block_streaming hugging_face image_libraries lazy_weights saved_folders token_limits",
    "models/weights": "checkpoints",
    "monitoring": "budget lightning_callback rows_file sinks",
    "recordings": "pseudo_population recording",
    "regimes/grokking": "transitions",
    "regimes/linear_networks": "balance phase_diagram",
    "regimes/linearization": "response",
    "regimes/stability": "fixed_rate",
    "regimes/training": "class_targets plain_training richness",
    "regimes/width": "coordinate_check",
    "report/content": "number_format sentences study_view time_sentences",
    "report/matplotlib": "kernel_plane",
    "report/pages": "lab",
    "report/plotly": "location",
    "statistics": "changepoints copies",
    "storage": "locks npz_files owned_files",
    "study": "measure_selection part_cache result",
    "study/time_courses": "trajectories",
    "tangent": "kernel_velocity_and_alignment ntk_diagonal",
    "tangent/jacobians": "directional_derivative known_modules",
    "tangent/layerwise": "wide_head",
}
SLOW_ONLY = {"contract", "comparison/sweeps/executors", "location/over_steps", "measures/series", "regimes", "report"}


def files() -> list[Path]:
    return [TESTS / folder / f"test_{name}.py" for folder, names in FAST.items() for name in names.split()]


if __name__ == "__main__":
    sys.stdout.write("\n".join(path.relative_to(TESTS.parent).as_posix() for path in files()) + "\n")

"""geomfeat: the geometry of what neural networks have learned, and where they sit between lazy and rich.

The public names below are imported when they are first used, so that `import geomfeat` and the command line's help
do not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geomfeat._version import __version__

if TYPE_CHECKING:
    from geomfeat.activations import ExtractOptions, extract, load_npz, recording, save_npz, select_layers
    from geomfeat.api import Comparison, Results, analyze, compare, compare_page
    from geomfeat.comparison.models import CompareOptions, ModelComparison
    from geomfeat.comparison.relations._relate import Related, relate
    from geomfeat.comparison.relations.equal_fit import Matched, match
    from geomfeat.comparison.relations.phase_map import Grid, portrait
    from geomfeat.comparison.sweeps._sweep import SweepResult, sweep
    from geomfeat.data._load_data import load_data
    from geomfeat.data.dataset import Dataset
    from geomfeat.errors import BadInput, GeomfeatError
    from geomfeat.geometry.dimension import DimensionCurve, dimension_curve
    from geomfeat.geometry.manifolds import (
        Capacity,
        CapacityCurve,
        CapacityDifference,
        ReplicaCapacity,
        SimulatedCapacity,
        capacity,
        capacity_by_layer,
        capacity_curve,
        capacity_difference,
        replica_capacity,
        simulated_capacity,
    )
    from geomfeat.geometry.probes import ProbeAccuracy, linear_probe
    from geomfeat.geometry.rsa import RDMs, RSARanking, compare_rdms, rank_by_rsa, rdm, stack_rdms
    from geomfeat.geometry.similarity import (
        CkaMatrix,
        Interval,
        StreamedCka,
        StreamingCKA,
        cka,
        cka_matrix,
        similarity_interval,
    )
    from geomfeat.location._locate import locate
    from geomfeat.location.options import LocateOptions
    from geomfeat.location.reference_ladder import Ladder, train_ladder
    from geomfeat.location.result import Location
    from geomfeat.models.weights.checkpoints import load_weights, save_weights
    from geomfeat.regimes.training import AtRichness, Richness, Trained, TrainOptions, at_richness, train_at_gamma
    from geomfeat.registry import Measure, available, get, list_measures, measure
    from geomfeat.study import Study, StudyOptions
    from geomfeat.tangent import ntk
    from geomfeat.types import Estimate, Kernel, Representation, Snapshot

# Which module holds a public name.
_HOME = {
    name: module
    for module, names in {
        "activations": "ExtractOptions extract load_npz recording save_npz select_layers",
        "api": "Comparison Results analyze compare compare_page",
        "comparison.models": "CompareOptions ModelComparison",
        "comparison.relations._relate": "Related relate",
        "comparison.relations.equal_fit": "Matched match",
        "comparison.relations.phase_map": "Grid portrait",
        "comparison.sweeps._sweep": "SweepResult sweep",
        "data._load_data": "load_data",
        "data.dataset": "Dataset",
        "errors": "BadInput GeomfeatError",
        "geometry.dimension": "DimensionCurve dimension_curve",
        "geometry.manifolds": (
            "Capacity CapacityCurve CapacityDifference ReplicaCapacity SimulatedCapacity "
            "capacity capacity_by_layer capacity_curve capacity_difference replica_capacity simulated_capacity"
        ),
        "geometry.probes": "ProbeAccuracy linear_probe",
        "geometry.rsa": "RDMs RSARanking compare_rdms rank_by_rsa rdm stack_rdms",
        "geometry.similarity": "CkaMatrix Interval StreamedCka StreamingCKA cka cka_matrix similarity_interval",
        "location._locate": "locate",
        "location.options": "LocateOptions",
        "location.reference_ladder": "Ladder train_ladder",
        "location.result": "Location",
        "models.weights.checkpoints": "load_weights save_weights",
        "regimes.training": "AtRichness Richness TrainOptions Trained at_richness train_at_gamma",
        "registry": "Measure available get list_measures measure",
        "study": "Study StudyOptions",
        "tangent": "ntk",
        "types": "Estimate Kernel Representation Snapshot",
    }.items()
    for name in names.split()
}

__all__ = [
    "AtRichness",
    "BadInput",
    "Capacity",
    "CapacityCurve",
    "CapacityDifference",
    "CkaMatrix",
    "CompareOptions",
    "Comparison",
    "Dataset",
    "DimensionCurve",
    "Estimate",
    "ExtractOptions",
    "GeomfeatError",
    "Grid",
    "Interval",
    "Kernel",
    "Ladder",
    "LocateOptions",
    "Location",
    "Matched",
    "Measure",
    "ModelComparison",
    "ProbeAccuracy",
    "RDMs",
    "RSARanking",
    "Related",
    "ReplicaCapacity",
    "Representation",
    "Results",
    "Richness",
    "SimulatedCapacity",
    "Snapshot",
    "StreamedCka",
    "StreamingCKA",
    "Study",
    "StudyOptions",
    "SweepResult",
    "TrainOptions",
    "Trained",
    "__version__",
    "analyze",
    "at_richness",
    "available",
    "capacity",
    "capacity_by_layer",
    "capacity_curve",
    "capacity_difference",
    "cka",
    "cka_matrix",
    "compare",
    "compare_page",
    "compare_rdms",
    "dimension_curve",
    "extract",
    "get",
    "linear_probe",
    "list_measures",
    "load_data",
    "load_npz",
    "load_weights",
    "locate",
    "match",
    "measure",
    "ntk",
    "portrait",
    "rank_by_rsa",
    "rdm",
    "recording",
    "relate",
    "replica_capacity",
    "save_npz",
    "save_weights",
    "select_layers",
    "similarity_interval",
    "simulated_capacity",
    "stack_rdms",
    "sweep",
    "train_at_gamma",
    "train_ladder",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'geomfeat' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(f"geomfeat.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__

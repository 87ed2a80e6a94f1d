"""The public names, and the modules that hold them: geomfeat/__init__.py reads them here."""

from ._version import __version__ as __version__
from .activations import (
    ExtractOptions as ExtractOptions,
)
from .activations import (
    extract as extract,
)
from .activations import (
    load_npz as load_npz,
)
from .activations import (
    recording as recording,
)
from .activations import (
    save_npz as save_npz,
)
from .activations import (
    select_layers as select_layers,
)
from .api import (
    Comparison as Comparison,
)
from .api import (
    Results as Results,
)
from .api import (
    analyze as analyze,
)
from .api import (
    compare as compare,
)
from .api import (
    compare_page as compare_page,
)
from .comparison.models import CompareOptions as CompareOptions
from .comparison.models import ModelComparison as ModelComparison
from .comparison.relations._relate import Related as Related
from .comparison.relations._relate import relate as relate
from .comparison.relations.equal_fit import Matched as Matched
from .comparison.relations.equal_fit import match as match
from .comparison.relations.phase_map import Grid as Grid
from .comparison.relations.phase_map import portrait as portrait
from .comparison.sweeps._sweep import SweepResult as SweepResult
from .comparison.sweeps._sweep import sweep as sweep
from .data._load_data import load_data as load_data
from .data.dataset import Dataset as Dataset
from .errors import BadInput as BadInput
from .errors import GeomfeatError as GeomfeatError
from .geometry.dimension import DimensionCurve as DimensionCurve
from .geometry.dimension import dimension_curve as dimension_curve
from .geometry.manifolds import (
    Capacity as Capacity,
)
from .geometry.manifolds import (
    CapacityCurve as CapacityCurve,
)
from .geometry.manifolds import (
    CapacityDifference as CapacityDifference,
)
from .geometry.manifolds import (
    ReplicaCapacity as ReplicaCapacity,
)
from .geometry.manifolds import (
    SimulatedCapacity as SimulatedCapacity,
)
from .geometry.manifolds import (
    capacity as capacity,
)
from .geometry.manifolds import (
    capacity_by_layer as capacity_by_layer,
)
from .geometry.manifolds import (
    capacity_curve as capacity_curve,
)
from .geometry.manifolds import (
    capacity_difference as capacity_difference,
)
from .geometry.manifolds import (
    replica_capacity as replica_capacity,
)
from .geometry.manifolds import (
    simulated_capacity as simulated_capacity,
)
from .geometry.probes import ProbeAccuracy as ProbeAccuracy
from .geometry.probes import linear_probe as linear_probe
from .geometry.rsa import (
    RDMs as RDMs,
)
from .geometry.rsa import (
    RSARanking as RSARanking,
)
from .geometry.rsa import (
    compare_rdms as compare_rdms,
)
from .geometry.rsa import (
    rank_by_rsa as rank_by_rsa,
)
from .geometry.rsa import (
    rdm as rdm,
)
from .geometry.rsa import (
    stack_rdms as stack_rdms,
)
from .geometry.similarity import (
    CkaMatrix as CkaMatrix,
)
from .geometry.similarity import (
    Interval as Interval,
)
from .geometry.similarity import (
    StreamedCka as StreamedCka,
)
from .geometry.similarity import (
    StreamingCKA as StreamingCKA,
)
from .geometry.similarity import (
    cka as cka,
)
from .geometry.similarity import (
    cka_matrix as cka_matrix,
)
from .geometry.similarity import (
    similarity_interval as similarity_interval,
)
from .location._locate import locate as locate
from .location.options import LocateOptions as LocateOptions
from .location.reference_ladder import Ladder as Ladder
from .location.reference_ladder import train_ladder as train_ladder
from .location.result import Location as Location
from .models.weights.checkpoints import load_weights as load_weights
from .models.weights.checkpoints import save_weights as save_weights
from .regimes.training import (
    AtRichness as AtRichness,
)
from .regimes.training import (
    Richness as Richness,
)
from .regimes.training import (
    Trained as Trained,
)
from .regimes.training import (
    TrainOptions as TrainOptions,
)
from .regimes.training import (
    at_richness as at_richness,
)
from .regimes.training import (
    train_at_gamma as train_at_gamma,
)
from .registry import (
    Measure as Measure,
)
from .registry import (
    available as available,
)
from .registry import (
    get as get,
)
from .registry import (
    list_measures as list_measures,
)
from .registry import (
    measure as measure,
)
from .study import Study as Study
from .study import StudyOptions as StudyOptions
from .tangent import ntk as ntk
from .types import Estimate as Estimate
from .types import Kernel as Kernel
from .types import Representation as Representation
from .types import Snapshot as Snapshot

"""The public names, and the modules that hold them: geomfeat/__init__.py reads them here."""

from ._version import __version__ as __version__
from .activations import (
    ExtractOptions as ExtractOptions,
    extract as extract,
    load_npz as load_npz,
    recording as recording,
    save_npz as save_npz,
    select_layers as select_layers,
)
from .api import (
    Comparison as Comparison,
    Results as Results,
    analyze as analyze,
    analyze_recording as analyze_recording,
    compare as compare,
    compare_page as compare_page,
    over_time as over_time,
    trajectories as trajectories,
)
from .charts import style as style
from .comparison.models import CompareOptions as CompareOptions, ModelComparison as ModelComparison
from .comparison.relations._relate import Related as Related, relate as relate
from .comparison.relations.equal_fit import Matched as Matched, match as match
from .comparison.relations.phase_map import Grid as Grid, portrait as portrait
from .comparison.sweeps._sweep import SweepResult as SweepResult, sweep as sweep
from .data._load_data import load_data as load_data
from .data.dataset import Dataset as Dataset
from .errors import BadInput as BadInput, GeomfeatError as GeomfeatError
from .forecasting import (
    Forecast as Forecast,
    ForecastOptions as ForecastOptions,
    forecast as forecast,
)
from .geometry.dimension import DimensionCurve as DimensionCurve, dimension_curve as dimension_curve
from .geometry.manifolds import (
    Capacity as Capacity,
    CapacityCurve as CapacityCurve,
    CapacityDifference as CapacityDifference,
    MatchedCapacities as MatchedCapacities,
    NoiseCorrectedCapacity as NoiseCorrectedCapacity,
    ReplicaCapacity as ReplicaCapacity,
    SimulatedCapacity as SimulatedCapacity,
    capacity as capacity,
    capacity_by_layer as capacity_by_layer,
    capacity_curve as capacity_curve,
    capacity_difference as capacity_difference,
    capacity_with_controls as capacity_with_controls,
    matched_capacities as matched_capacities,
    noise_control as noise_control,
    noise_corrected_capacity as noise_corrected_capacity,
    replica_capacity as replica_capacity,
    simulated_capacity as simulated_capacity,
)
from .geometry.probes import ProbeAccuracy as ProbeAccuracy, linear_probe as linear_probe
from .geometry.rsa import (
    FittedRDMs as FittedRDMs,
    NoiseCeiling as NoiseCeiling,
    RDMs as RDMs,
    RSARanking as RSARanking,
    Searchlights as Searchlights,
    compare_rdms as compare_rdms,
    condition_residuals as condition_residuals,
    fit_rdm_model as fit_rdm_model,
    noise_ceiling as noise_ceiling,
    noise_precision as noise_precision,
    noise_precision_by_run as noise_precision_by_run,
    rank_by_rsa as rank_by_rsa,
    rdm as rdm,
    searchlight_rdms as searchlight_rdms,
    stack_rdms as stack_rdms,
)
from .geometry.similarity import (
    CkaMatrix as CkaMatrix,
    Interval as Interval,
    StreamedCka as StreamedCka,
    StreamingCKA as StreamingCKA,
    cka as cka,
    cka_matrix as cka_matrix,
    similarity_interval as similarity_interval,
)
from .location._locate import locate as locate
from .location.advice import Advice as Advice, AdvisedChange as AdvisedChange
from .location.movement_only import Movement as Movement, movement as movement
from .location.options import LocateOptions as LocateOptions
from .location.over_steps import locate_by_step as locate_by_step
from .location.planning import LocationPlan as LocationPlan, plan_location as plan_location
from .location.reference_ladder import Ladder as Ladder, train_ladder as train_ladder
from .location.result import Location as Location
from .memory import memory_limit as memory_limit
from .models.sources import load_model as load_model
from .models.weights.checkpoints import load_weights as load_weights, save_weights as save_weights
from .monitoring import (
    Monitor as Monitor,
    Monitored as Monitored,
    MonitorOptions as MonitorOptions,
    load_monitored as load_monitored,
)
from .recordings import (
    Recording as Recording,
    load_recording as load_recording,
    pseudo_population as pseudo_population,
)
from .regimes.training import (
    AtRichness as AtRichness,
    PlainOptions as PlainOptions,
    PlainTraining as PlainTraining,
    Richness as Richness,
    Trained as Trained,
    TrainOptions as TrainOptions,
    at_richness as at_richness,
    next_tokens as next_tokens,
    train_at_gamma as train_at_gamma,
    train_plainly as train_plainly,
    with_scaled_outputs as with_scaled_outputs,
)
from .registry import (
    Measure as Measure,
    available as available,
    get as get,
    list_measures as list_measures,
    measure as measure,
)
from .statistics.cluster_permutation import ClusterTest as ClusterTest, cluster_test as cluster_test
from .study import Study as Study, StudyOptions as StudyOptions, TimeCourse as TimeCourse
from .tangent import OptimizerRates as OptimizerRates, ntk as ntk
from .types import Estimate as Estimate, Kernel as Kernel, Representation as Representation, Snapshot as Snapshot

"""Tasks for recurrent networks: trials with inputs and targets at every step, the scored steps, and conditions."""

from geomfeat.data.tasks._context_dependent_choice import context_dependent_choice
from geomfeat.data.tasks._delayed_match import delayed_match
from geomfeat.data.tasks._two_alternative_choice import two_alternative_choice
from geomfeat.data.tasks._working_memory import working_memory
from geomfeat.data.tasks.neurogym_trials import from_neurogym
from geomfeat.data.tasks.trials import TaskTrials

__all__ = [
    "TaskTrials",
    "context_dependent_choice",
    "delayed_match",
    "from_neurogym",
    "two_alternative_choice",
    "working_memory",
]

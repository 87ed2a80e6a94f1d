"""The calls of other tools, for code that is written against them, and exchange of their objects."""

from geomfeat.compat.glue.analysis import GlueAnalysis, glue_analysis, glue_analysis_dataframe
from geomfeat.compat.rsatoolbox import from_rsatoolbox, to_rsatoolbox

__all__ = ["GlueAnalysis", "from_rsatoolbox", "glue_analysis", "glue_analysis_dataframe", "to_rsatoolbox"]

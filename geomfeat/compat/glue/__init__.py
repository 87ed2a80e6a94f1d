"""GLUE analysis as the closed GLUE tool is called: `import geomfeat.compat.glue as glue` in place of `import glue`."""

from geomfeat.compat.glue import contrib, preprocess
from geomfeat.compat.glue.analysis import GlueAnalysis, glue_analysis, glue_analysis_dataframe

__all__ = ["GlueAnalysis", "contrib", "glue_analysis", "glue_analysis_dataframe", "preprocess"]

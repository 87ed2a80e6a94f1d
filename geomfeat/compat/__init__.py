"""The calls of other tools, for code that is written against them: the same arguments, geomfeat's numbers."""

from geomfeat.compat.glue import GlueAnalysis, glue_analysis, glue_analysis_dataframe

__all__ = ["GlueAnalysis", "glue_analysis", "glue_analysis_dataframe"]

"""A study: one network's snapshots x layers x measures as a tidy table, with its location and arrays for pictures."""

from geomfeat.study._over_time import TimeCourse, over_time
from geomfeat.study.options import StudyOptions
from geomfeat.study.recordings import analyze_recording
from geomfeat.study.result import Study
from geomfeat.study.run import analyze

__all__ = ["Study", "StudyOptions", "TimeCourse", "analyze", "analyze_recording", "over_time"]

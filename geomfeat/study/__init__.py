"""A study: one network's snapshots x layers x measures as a tidy table, with its location and arrays for pictures."""

from geomfeat.study.options import StudyOptions
from geomfeat.study.recordings import analyze_recording
from geomfeat.study.result import Study
from geomfeat.study.run import analyze
from geomfeat.study.time_courses._over_time import over_time
from geomfeat.study.time_courses._trajectories import trajectories
from geomfeat.study.time_courses.course import TimeCourse

__all__ = ["Study", "StudyOptions", "TimeCourse", "analyze", "analyze_recording", "over_time", "trajectories"]

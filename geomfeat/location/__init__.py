"""Where a network is between lazy and rich: demand, movement, excess, and the location made of them."""

from geomfeat.location._locate import locate
from geomfeat.location.options import LocateOptions
from geomfeat.location.planning.plan import LocationPlan, plan_location
from geomfeat.location.reference_ladder import Ladder, train_ladder
from geomfeat.location.result import Location

__all__ = ["Ladder", "LocateOptions", "Location", "LocationPlan", "locate", "plan_location", "train_ladder"]

"""How much work a location is: the effort that a size allows, time and memory it will take, what a budget leaves."""

from geomfeat.location.planning.plan import LocationPlan, plan_location

__all__ = ["LocationPlan", "plan_location"]

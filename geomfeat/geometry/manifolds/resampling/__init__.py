"""Capacities without some of their points or units, from the solution of the whole, and errors over data from them."""

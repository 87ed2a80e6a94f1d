"""What optimizer, learning rate and schedule do to demand, movement and the kernel, from one set of initial weights."""

from geomfeat.lab.optimizer_and_richness.experiment import run

__all__ = ["run"]

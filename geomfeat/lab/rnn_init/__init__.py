"""What gain, rank and output scale of a recurrent network's initial weights do to its place."""

from geomfeat.lab.rnn_init.experiment import run

__all__ = ["run"]

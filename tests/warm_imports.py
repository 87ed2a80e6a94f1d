"""What most scripts import, see `warm_process`."""

import os

os.environ["MPLBACKEND"] = "Agg"

import matplotlib.pyplot
import pandas
import sklearn.decomposition
import torch

import geomfeat

torch.set_num_threads(1)
for name in ("analyze", "capacity", "cka_matrix", "locate", "sweep", "train_at_gamma"):
    getattr(geomfeat, name)
assert all((matplotlib.pyplot, pandas, sklearn.decomposition))

"""What most scripts import, see `warm_process`."""

import os

os.environ["MPLBACKEND"] = "Agg"

import distributed
import matplotlib.pyplot
import pandas
import sklearn.decomposition
import torch
import torch._dynamo  # which derivatives for many samples import at first use, for three seconds

import geomfeat

torch.set_num_threads(1)
for name in ("analyze", "capacity", "cka_matrix", "locate", "sweep", "train_at_gamma"):
    getattr(geomfeat, name)
assert all((distributed, matplotlib.pyplot, pandas, sklearn.decomposition, torch._dynamo))

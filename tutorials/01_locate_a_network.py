# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # Locate a network between lazy and rich
#
# Two networks with the same architecture, data and training loss can have learned in opposite ways. A *lazy*
# network keeps its initial features and only re-weights them; a *rich* one builds new features. Accuracy does not
# distinguish them. Here we train networks of known richness, locate them, and measure how their features changed.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import geomfeat as gf
from geomfeat.models.mlp import mlp
from geomfeat.report.figures import layer_profiles, richness_scale

PICTURES = Path("pictures")
PICTURES.mkdir(exist_ok=True)

# %% [markdown]
# ## Networks of known richness
#
# Train the function $f = (\mathrm{net}(w) - \mathrm{net}(w_0)) / \gamma$. With a small output scale $\gamma$,
# tiny changes of the weights suffice, and training is lazy; with a large one the features must move. All three
# runs start from the same weights and stop at the same relative loss, .05.

# %%
data = gf.load_data("digits", n=60)
x, y = data.inputs, data.labels
start = mlp(seed=0)

gammas = {"lazy": 0.03, "middle": 1.5, "rich": 30.0}
trained = {
    name: gf.train_at_gamma(
        start, x, y, gamma=gamma, target_loss=0.05, options=gf.TrainOptions(test=(data.test_inputs, data.test_labels))
    )
    for name, gamma in gammas.items()
}
for name, run in trained.items():
    print(f"{name:7} loss {run.train_loss:.3f}  train {run.train_accuracy:.1%}  test {run.test_accuracy:.1%}")

# %% [markdown]
# The test accuracies are close: they do not show which network is lazy.
#
# ## Demand, movement, excess
#
# `locate` linearises the *initial* network in its parameters and computes how far its hidden features would have had
# to move to change its outputs from $f_0$ to $f_T$. That is the demand $R$, in decades of the features' own size. The
# movement $M$ is how far they actually moved, and the excess is $E = M - R$.

# %%
located = {name: gf.locate(run.model, x, y, initial=start, progress=False) for name, run in trained.items()}
for name, where in located.items():
    print(f"{name:7} {where}")

# %% [markdown]
# The three differ by the decades of $\gamma$ between them, although `locate` does not know $\gamma$:

# %%
found = np.diff([where.richness for where in located.values()])
known = np.diff(np.log10(list(gammas.values())))
print("steps of R:", np.round(found, 2), " steps of log10 gamma:", np.round(known, 2))
assert np.allclose(found, known, atol=0.08)

# %% [markdown]
# In the plane of demand and movement, the lazy network lies on the diagonal: its features moved just as far as
# the linear response requires. The rich one lies below: learning new features needs less movement than linear
# learning would.

# %%
figure, axes = plt.subplots(figsize=(5, 4.5), layout="constrained")
for name, where in located.items():
    axes.plot(where.layers["richness"], where.layers["movement"], "o-", label=f"{name}, layer by layer")
span = np.array([-2.2, 1.7])
axes.plot(span, span, color="grey", linewidth=1, label="lazy: M = R")
axes.set(xlabel="demand R (decades)", ylabel="movement M (decades)", xlim=span, ylim=span)
axes.legend()
figure.savefig(PICTURES / "01_plane.png", dpi=120)

# %% [markdown]
# ## Without the initial weights
#
# Often only the final weights are available. Fresh weights from the same factory then replace the initial ones. Two
# random initialisations already compute different functions, so values of R below a floor mean nothing. `locate`
# measures this floor: the lazy network is *at most* that rich.

# %%
for name in gammas:
    where = gf.locate(trained[name].model, x, y, factory=mlp, progress=False)
    print(f"{name:7} {where}   floor {where.floor:+.2f}, with the true start {located[name].richness:+.2f}")
    if not where.at_most:
        assert abs(where.richness - located[name].richness) < 0.15

# %% [markdown]
# ## Which gamma is that?
#
# A ladder trains the same architecture at known values of $\gamma$ and interpolates the $\gamma$ with the same $R$.

# %%
ladder = gf.train_ladder(start, x, y, (0.1, 0.5, 2.0, 8.0), progress=False)
where = gf.locate(trained["middle"].model, x, y, initial=start, ladder=ladder, progress=False)
print(f"equivalent gamma {where.equivalent_gamma:.2f} [{where.gamma_low:.2f}, {where.gamma_high:.2f}], known: 1.5")
assert abs(np.log10(where.equivalent_gamma / 1.5)) < 0.1

# %% [markdown]
# ## How did the features change?
#
# `R` and `M` say how much they moved. `analyze` measures how the geometry of every layer changed.

# %%
measures = ["capacity", "participation_ratio", "participation_ratio_corrected", "label_alignment_unbiased"]
studies = [
    gf.analyze(
        run.model,
        x,
        y,
        initial=start,
        measures=measures,
        progress=False,
        options=gf.StudyOptions(name=name, umap=False),
    )
    for name, run in trained.items()
]
last = "fc2"
for study in studies:
    table = study.table.query("layer == @last and at == 'trained' and quantity in ('capacity', 'dimension', 'radius')")
    numbers = ", ".join(f"{r.quantity} {r.value:.3f} ± {r.stderr:.3f}" for r in table.itertuples())
    print(f"{study.name:7} {last}: {numbers}")

# %% [markdown]
# Richer learning makes the classes more compact: their manifolds have fewer dimensions and a smaller radius, so the
# same units could separate more classes. The lazy network has the geometry of its initial weights.

# %%
layer_profiles(studies).savefig(PICTURES / "01_profiles.png", dpi=120)
richness_scale(studies).savefig(PICTURES / "01_scale.png", dpi=120)

# %% [markdown]
# All results on one page, a single file that works offline:

# %%
page = gf.compare_page(studies, "01_locate_a_network.html")
print(f"{page}: {page.stat().st_size / 1e6:.1f} MB")

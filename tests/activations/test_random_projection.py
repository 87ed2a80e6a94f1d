"""Sparse random projection: scikit-learn's, and the same for a layer at every checkpoint."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.random_projection import SparseRandomProjection
from torch.testing import assert_close

from geomfeat.activations import ExtractOptions, extract, project, projection_matrix
from geomfeat.errors import BadInput
from geomfeat.numerics import numpy_stream, tolerance
from tests.activations.zoo import conv_bn_residual


def test_the_matrix_is_scikit_learns_for_a_state_from_seed_and_layer() -> None:
    x = torch.randn(5, 200, generator=torch.Generator().manual_seed(0))
    state = int(numpy_stream(3, "projection", "fc").integers(2**32))
    theirs = SparseRandomProjection(n_components=20, random_state=state).fit_transform(x.double().numpy())
    assert_close(project(x.double(), projection_matrix(200, 20, "fc", 3)), torch.from_numpy(theirs), **tolerance())
    assert project(x, projection_matrix(200, 20, "fc", 3)).dtype == torch.float32


def test_it_depends_on_seed_and_layer_alone() -> None:
    matrix = projection_matrix(100, 10, "fc", 1).to_dense()
    np.random.seed(5)  # noqa: NPY002 -- a global state that must not matter
    assert torch.equal(projection_matrix(100, 10, "fc", 1).to_dense(), matrix)
    assert not torch.equal(projection_matrix(100, 10, "fc", 2).to_dense(), matrix)
    assert not torch.equal(projection_matrix(100, 10, "fc2", 1).to_dense(), matrix)


def test_squared_distances_are_kept_on_average() -> None:
    x = torch.randn(2, 400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    true = (x[0] - x[1]).square().sum()
    found = torch.stack(
        [project(x, projection_matrix(400, 50, "fc", seed)).diff(dim=0).square().sum() for seed in range(200)]
    )
    stderr = found.std() / 200**0.5
    assert abs(found.mean() - true) < 4 * stderr
    assert stderr < 0.02 * true


def test_two_checkpoints_share_the_projection_whatever_batch_or_other_layers() -> None:
    model, x = conv_bn_residual()
    everything = extract(model, x, layers="*", project=12, seed=4, progress=False)
    alone = extract(
        model, x, layers="layer1.1.conv2", project=12, seed=4, progress=False, options=ExtractOptions(batch_size=1)
    )["layer1.1.conv2"]
    assert_close(alone.x, everything["layer1.1.conv2"].x, **tolerance(torch.float32))
    plain = extract(model, x, layers="layer1.1.conv2", progress=False)["layer1.1.conv2"]
    matrix = projection_matrix(plain.d, 12, "layer1.1.conv2", 4)
    assert_close(alone.x, project(plain.x, matrix), **tolerance(torch.float32))
    assert (alone.meta["project"], alone.meta["seed"]) == (12, 4)


def test_a_layer_of_few_features_is_left_exact() -> None:
    model, x = conv_bn_residual()
    rep = extract(model, x, layers="head", project=12, progress=False)["head"]
    assert rep.d == 3
    assert rep.meta["project"] is None


@pytest.mark.parametrize("k", [0, -1, 100, 101])
def test_bad_dimensions_are_refused(k: int) -> None:
    with pytest.raises(BadInput, match=f"project={k}"):
        projection_matrix(100, k, "fc")


def test_a_bad_dimension_is_refused_by_extract() -> None:
    model, x = conv_bn_residual()
    with pytest.raises(BadInput, match="project=0"):
        extract(model, x, project=0, progress=False)

"""timm and torchvision by name: with stand-ins for the packages, since neither need be installed."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from geomfeat.errors import BadInput
from geomfeat.models.sources import load_model


def small(weights: Any = "downloaded", weights_backbone: Any = "downloaded") -> nn.Module:
    assert weights is None
    assert weights_backbone is None
    return nn.Linear(2, 3)


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules with the functions of the two libraries that are called."""
    vision: Any = ModuleType("torchvision")
    timm: Any = ModuleType("timm")
    builders = {"resnet18": lambda *, weights="downloaded", progress=True: small(weights, None), "fcn": small}
    vision.models = ModuleType("torchvision.models")
    vision.models.list_models, vision.models.get_model_builder = lambda: list(builders), builders.get

    def create_model(name: str, pretrained: bool = True) -> nn.Module:
        assert not pretrained
        return nn.Linear(2, 4)

    timm.create_model, timm.list_models = create_model, lambda: ["vit_tiny"]
    monkeypatch.setitem(sys.modules, "torchvision", vision)
    monkeypatch.setitem(sys.modules, "timm", timm)


@pytest.mark.parametrize(
    ("spec", "shape"), [("torchvision:resnet18", (3, 2)), ("torchvision:fcn", (3, 2)), ("timm:vit_tiny", (4, 2))]
)
def test_an_architecture_without_downloads(libraries: None, spec: str, shape: tuple[int, ...]) -> None:
    model = load_model(spec)
    assert model.weight.shape == shape
    assert not model.training


def test_with_weights_of_a_file(libraries: None, tmp_path: Any) -> None:
    torch.save(nn.Linear(2, 4).state_dict(), tmp_path / "w.pt")
    want = torch.load(tmp_path / "w.pt", weights_only=True)
    assert torch.equal(load_model("timm:vit_tiny", weights=tmp_path / "w.pt").state_dict()["weight"], want["weight"])


def test_unknown_names_are_refused_with_near_ones(libraries: None) -> None:
    with pytest.raises(BadInput, match="torchvision has no 'resnet81'; near: resnet18"):
        load_model("torchvision:resnet81")
    with pytest.raises(BadInput, match="timm has no 'vit_tinny'; near: vit_tiny"):
        load_model("timm:vit_tinny")
    with pytest.raises(BadInput, match="names no architecture: give timm:NAME"):
        load_model("timm:")


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_a_library_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(BadInput, match=rf"needs the package {library}.*pip install {library}.*FILE\.py:factory"):
        load_model(f"{library}:resnet18")

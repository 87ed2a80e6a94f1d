"""A small residual convolutional network, with the normalisation of your choice."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from geomfeat.errors import BadInput
from geomfeat.models.parameterization import scaled, seeded

# "layer" is LayerNorm over channels and positions, as one group.
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "layer": lambda channels: nn.GroupNorm(1, channels),
    "group": lambda channels: nn.GroupNorm(max(g for g in (1, 2, 4) if channels % g == 0), channels),
    "none": lambda channels: nn.Identity(),
}


class ResidualBlock(nn.Module):
    """relu(norm2(conv2(relu(norm1(conv1(x))))) + shortcut(x)) (He et al. 2016, figure 2)."""

    def __init__(self, before: int, after: int, stride: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.norm1 = norm(after)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = norm(after)
        same = before == after and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(before, after, 1, stride=stride, bias=False)
        self.act2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(n, before, h, w) -> (n, after, h', w')."""
        inner = self.act1(self.norm1(self.conv1(x)))
        return self.act2(self.norm2(self.conv2(inner)) + self.shortcut(x))


def residual(
    image: Sequence[int] = (1, 8, 8),
    channels: Sequence[int] = (16, 32),
    outputs: int = 10,
    *,
    norm: str = "batch",
    blocks: int = 1,
    init_scale: float = 1.0,
    seed: int | None = None,
) -> nn.Sequential:
    """`stem`, `stem_norm`, `stem_act`, `block1`, `block2`, ..., `pool` (mean), `flatten`, `head`.

    Args:
        image: (channels, height, width). channels: per stage; each stage but the first halves the image.
        norm: "batch", "layer", "group" or "none". blocks: per stage.
        init_scale: factor on the initial weights outside the normalisation. seed: of the initial weights.

    Raises BadInput for sizes below 1 or an unknown norm.

    >>> import torch
    >>> residual(norm="group")(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """
    if norm not in NORMS:
        raise BadInput(f"no norm {norm!r}; there are: {', '.join(NORMS)}")
    if len(image) != 3 or not channels or min([*image, *channels, blocks]) < 1:
        raise BadInput(f"image={tuple(image)}, channels={tuple(channels)}, blocks={blocks} must hold sizes >= 1")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    with seeded(seed, "residual"):
        layers["stem"] = nn.Conv2d(image[0], channels[0], 3, padding=1, bias=False)
        layers["stem_norm"], layers["stem_act"] = NORMS[norm](channels[0]), nn.ReLU()
        before, count = channels[0], 0
        for stage, after in enumerate(channels):
            for repeat in range(blocks):
                count += 1
                stride = 2 if stage and not repeat else 1
                layers[f"block{count}"] = ResidualBlock(before, after, stride, NORMS[norm])
                before = after
        layers["pool"], layers["flatten"] = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        layers["head"] = nn.Linear(before, outputs)
        return scaled(nn.Sequential(layers), init_scale)  # pyright: ignore[reportReturnType]

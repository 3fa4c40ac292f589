"""ResNets up to stage 3, with torchvision's key names (He et al. 2016; Zagoruyko & Komodakis 2016).

torchvision itself is not needed: anomaly scoring uses stages 1 to 3 only, so the last stage and
the classifier are neither built nor loaded. ``v1`` and ``v1.5`` differ in which convolution of a
down-sampling bottleneck carries the stride: the first 1x1 (the paper) or the 3x3 (torchvision).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class ResNetShape:
    """What tells one ResNet from another."""

    blocks: tuple[int, int, int]
    """Blocks in stages 1 to 3."""
    bottleneck: bool
    base_width: int = 64
    """Channels of a bottleneck's 3x3 in stage 1; 128 in the wide one."""
    stride_on: str = "3x3"
    """``3x3`` (v1.5, torchvision) or ``1x1`` (v1)."""


SHAPES = {
    "resnet18": ResNetShape((2, 2, 2), bottleneck=False),
    "resnet34": ResNetShape((3, 4, 6), bottleneck=False),
    "resnet50": ResNetShape((3, 4, 6), bottleneck=True),
    "resnet50_v1": ResNetShape((3, 4, 6), bottleneck=True, stride_on="1x1"),
    "wide_resnet50_2": ResNetShape((3, 4, 6), bottleneck=True, base_width=128),
}


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a short cut."""

    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int, shape: ResNetShape) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, planes, 3, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = _conv(planes, planes, 3)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _short_cut(inputs, planes, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, planes, H / stride, W / stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        out: torch.Tensor = self.relu(y + (x if self.downsample is None else self.downsample(x)))
        return out


class Bottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up and a short cut."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int, shape: ResNetShape) -> None:
        super().__init__()
        width = planes * shape.base_width // 64
        first, second = (stride, 1) if shape.stride_on == "1x1" else (1, stride)
        self.conv1 = _conv(inputs, width, 1, first)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, second)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, planes * 4, 1)
        self.bn3 = nn.BatchNorm2d(planes * 4)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _short_cut(inputs, planes * 4, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, 4 planes, H / stride, W / stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        out: torch.Tensor = self.relu(y + (x if self.downsample is None else self.downsample(x)))
        return out


def _short_cut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """Stem and stages 1 to 3; returns all three stages."""

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential

    def __init__(self, shape: ResNetShape) -> None:
        super().__init__()
        block = Bottleneck if shape.bottleneck else BasicBlock
        self.mean, self.std = IMAGENET_MEAN, IMAGENET_STD
        self.channels: tuple[int, ...] = tuple(
            planes * block.expansion for planes in (64, 128, 256)
        )
        self.strides = (4, 8, 16)
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inputs = 64
        for index, planes in enumerate((64, 128, 256)):
            blocks = []
            for position in range(shape.blocks[index]):
                stride = 2 if index > 0 and position == 0 else 1
                blocks.append(block(inputs, planes, stride, shape))
                inputs = planes * block.expansion
            setattr(self, f"layer{index + 1}", nn.Sequential(*blocks))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, 3, H, W), normalised, to three maps of stride 4, 8 and 16."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        stage1 = self.layer1(x)  # (B, C1, H/4, W/4)
        stage2 = self.layer2(stage1)  # (B, C2, H/8, W/8)
        return stage1, stage2, self.layer3(stage2)  # (B, C3, H/16, W/16)


def shape_of(state: dict[str, torch.Tensor]) -> str | None:
    """Names the ResNet whose weights these are; they don't show strides, so v1.5 is taken."""
    if "layer1.0.conv1.weight" not in state:
        return None
    depth = len({key.split(".")[1] for key in state if key.startswith("layer3.")})
    if "layer1.0.conv3.weight" not in state:
        return {2: "resnet18", 6: "resnet34"}.get(depth)
    width = state["layer1.0.conv2.weight"].shape[0]
    return {(6, 64): "resnet50", (6, 128): "wide_resnet50_2"}.get((depth, width))

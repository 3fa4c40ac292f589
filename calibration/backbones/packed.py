"""Files of backbones that `inspectd pretrain` made, as small as they can be.

A ResNet-18 to stage 3 (see `calibration.pretraining`). Batch norms are folded into the
convolutions, so that only their biases are left, and all is float16: 5.6 MB.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from safetensors.torch import save
from torch import nn

from calibration.backbones.resnet import SHAPES, ResNet

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def blank_network() -> ResNet:
    """The network before it has weights of any worth, in training mode."""
    network = ResNet(SHAPES["resnet18"])
    network.mean, network.std = MEAN, STD
    return network


def is_packed(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether these are the tensors of a packed file."""
    return "bn1.bias" in tensors and "bn1.weight" not in tensors and len(tensors) == len(_names())


def packed(network: ResNet, about: Mapping[str, str]) -> bytes:
    """The network as a safetensors file, with text about it in the metadata."""
    tensors = {}
    for (first, convolution), (second, norm) in _pairs(network):
        mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        scale = norm.weight / torch.sqrt(variance + norm.eps)
        tensors[f"{first}.weight"] = convolution.weight * scale[:, None, None, None]
        tensors[f"{second}.bias"] = norm.bias - mean * scale
    halves = {name: value.detach().half().contiguous() for name, value in tensors.items()}
    return save(halves, dict(about))


def unpacked(tensors: Mapping[str, torch.Tensor]) -> ResNet:
    """The network of a packed file, in evaluation mode; its batch norms only add."""
    network = blank_network()
    state = network.state_dict()
    for name, value in state.items():
        if name in tensors:
            state[name] = tensors[name].float()
        elif name.endswith("running_var"):
            state[name] = torch.full_like(value, 1 - network.bn1.eps)
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def _pairs(
    network: ResNet,
) -> list[tuple[tuple[str, nn.Conv2d], tuple[str, nn.BatchNorm2d]]]:
    """Each convolution and the norm behind it, by name: they come in the same order."""
    modules = list(network.named_modules())
    convolutions = [(name, one) for name, one in modules if isinstance(one, nn.Conv2d)]
    norms = [(name, one) for name, one in modules if isinstance(one, nn.BatchNorm2d)]
    return list(zip(convolutions, norms, strict=True))


def _names() -> list[str]:
    """Of all tensors in a packed file."""
    pairs = _pairs(blank_network())
    return [f"{first}.weight" for (first, _), _ in pairs] + [f"{n}.bias" for _, (n, _) in pairs]

"""Packed backbones: small files of what pre-training made."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load

from calibration.backbones import load_backbone
from calibration.backbones.packed import blank_network, is_packed, packed, unpacked
from calibration.backbones.resnet import ResNet


def _network() -> ResNet:
    """Random weights and statistics."""
    torch.manual_seed(0)
    network = blank_network()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.get_buffer("running_mean").uniform_(-0.2, 0.2)
            module.get_buffer("running_var").uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    return network.eval()


def test_packing_changes_next_to_nothing() -> None:
    """All three stages keep their values up to float16's precision, in half the bytes."""
    network = _network()
    content = packed(network, {"made_by": "a test"})
    assert len(content) < 6 * 2**20
    picture = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        pairs = zip(network(picture), unpacked(load(content))(picture), strict=True)
        for before, after in pairs:
            assert (after - before).abs().max() < 0.02 * before.abs().max()


def test_a_packed_file_is_a_backbone(tmp_path: Path) -> None:
    """``--backbone FILE`` takes one, with the normalisation it was trained with."""
    path = tmp_path / "mine.safetensors"
    path.write_bytes(packed(_network(), {}))
    backbone = load_backbone(str(path))
    assert backbone.name == "mine"
    assert backbone.network.mean == (0.5, 0.5, 0.5)
    assert not any(parameter.requires_grad for parameter in backbone.network.parameters())


def test_a_full_state_is_not_packed() -> None:
    """A file with batch norms of its own is read as a ResNet's."""
    assert not is_packed(_network().state_dict())

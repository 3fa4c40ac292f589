"""MPFNet's learned part: what is exported is what was trained."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from calibration.discriminator import (
    Discriminating,
    MPFHead,
    Scaling,
    common_scaling,
    no_scaling,
    unit_scaling,
)
from calibration.fusion import FUSIONS, Fusion, PrototypeFusion, side_by_side


def _trained(channels: int) -> Discriminating:
    """With statistics and weights as after some training."""
    torch.manual_seed(0)
    network = Discriminating(channels)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    network.train()
    network.normality(3 + 2 * torch.randn(200, channels))
    return network.eval()


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("scaled_by", [unit_scaling, common_scaling, no_scaling])
def test_the_folded_head_is_the_trained_network(
    fusion: Fusion, scaled_by: Callable[..., Scaling]
) -> None:
    """Fused, scaled, adapted and judged position by position: the same scores, to rounding."""
    generator = torch.Generator().manual_seed(1)
    stages = tuple(
        torch.rand((3, channels, side, side), generator=generator)
        for channels, side in ((2, 24), (4, 12), (6, 6))
    )
    prototypes = None if fusion == "none" else (stages[1][:2], stages[2][:2])
    features = PrototypeFusion(fusion, (4, 6), prototypes, seed=0).eval()
    rows = side_by_side(features((stages[1], stages[2]))).permute(0, 2, 3, 1)  # (3, 12, 12, C)
    flat = rows.reshape(-1, rows.shape[-1])
    scaling = scaled_by(flat.numpy())
    network = _trained(scaling.channels)
    scaled = (flat - torch.from_numpy(scaling.mean)) * torch.from_numpy(scaling.gain)
    with torch.inference_mode():
        expected = network(scaled).reshape(3, 1, 12, 12)
        found = MPFHead(features, scaling, network)((stages[0], stages[1], stages[2]))
    assert expected.std() > 0.05
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_scaled_rows_have_deviation_one() -> None:
    """Each channel of them; one that never changes stays finite."""
    rows = np.random.default_rng(0).normal(3, (1, 2, 0.5), (500, 3)).astype(np.float32)
    rows = np.concatenate([rows, np.ones((500, 1), np.float32)], axis=1)
    scaling = unit_scaling(rows)
    scaled = (rows - scaling.mean) * scaling.gain
    np.testing.assert_allclose(scaled[:, :3].std(axis=0), 1, rtol=1e-4)
    assert np.isfinite(scaled).all()


def test_the_score_is_minus_the_normality() -> None:
    """Equation 9."""
    network = _trained(4)
    rows = torch.rand(7, 4)
    with torch.inference_mode():
        assert torch.equal(network(rows), -network.normality(network.adapter(rows)))


def test_the_common_scale_is_one_number() -> None:
    """The mean of the deviations becomes 1, and channels keep their proportions."""
    rows = np.random.default_rng(0).normal(3, (1, 2, 0.6), (5000, 3)).astype(np.float32)
    scaling = common_scaling(rows)
    deviation = ((rows - scaling.mean) * scaling.gain).std(axis=0)
    assert deviation.mean() == pytest.approx(1, rel=1e-4)
    np.testing.assert_allclose(deviation / deviation[0], [1, 2, 0.6], rtol=0.05)

"""MPFNet's features: prototypes of whole maps and the fusion of two scales."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from calibration.fusion import (
    FUSIONS,
    Fusion,
    MultiScaleFusion,
    Pair,
    PrototypeFusion,
    prototypes_of,
    side_by_side,
)


def _maps(seed: int, count: int = 3, size: int = 6) -> Pair:
    generator = torch.Generator().manual_seed(seed)
    two = torch.rand((count, 4, 2 * size, 2 * size), generator=generator)
    return two, torch.rand((count, 6, size, size), generator=generator)


def test_each_scale_gets_the_other() -> None:
    """Equation 1: up by 1x1 convolution and bilinear upsampling, down by stride 2, kernel 3."""
    two, three = _maps(2)
    block = MultiScaleFusion((4, 6), seed=1)
    mixing = block.mixing[..., 0, 0]  # (6, 4)
    torch.testing.assert_close(mixing.T @ mixing, torch.eye(4))
    up = functional.interpolate(three, size=(12, 12), mode="bilinear", align_corners=False)
    up = torch.einsum("oc,bohw->bchw", mixing, up)
    kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    down = functional.conv2d(two.flatten(0, 1)[:, None], kernel[None, None], stride=2, padding=1)
    down = torch.einsum("oc,bchw->bohw", mixing, down.reshape(3, 4, 6, 6))
    fused = block((two, three))
    torch.testing.assert_close(fused[0], two + up)
    torch.testing.assert_close(fused[1], three + down)


@pytest.mark.parametrize("channels", [(4, 6), (6, 4), (5, 5)])
def test_the_block_takes_any_channels(channels: tuple[int, int]) -> None:
    """Also a backbone whose deeper stage is the narrower one; the seed decides the weights."""
    maps = (torch.rand(1, channels[0], 7, 9), torch.rand(1, channels[1], 4, 5))
    one, again, other = (MultiScaleFusion(channels, seed)(maps)[0] for seed in (1, 1, 2))
    assert one.shape == maps[0].shape
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_what_prototypes_add(fusion: Fusion) -> None:
    """Half of the channels is the picture's; the other half the residual's or the prototype's."""
    maps = _maps(3)
    prototypes = None if fusion == "none" else maps  # each map is its own nearest prototype
    features = PrototypeFusion(fusion, (4, 6), prototypes, seed=0)
    two, three = features(maps)
    assert (two.shape[1], three.shape[1]) == features.widths
    assert features.count == (0 if fusion == "none" else 3)
    if fusion == "residual":
        assert not two[:, 4:].any()
        assert not three[:, 6:].any()
    elif fusion == "prototype":
        torch.testing.assert_close(two[:, 4:], two[:, :4])


def test_a_position_is_the_mean_of_its_neighbours() -> None:
    """Equation 3: three by three, at the border of those there are."""
    maps = _maps(4)
    features = PrototypeFusion("none", (4, 6), None, seed=0)
    fused, averaged = features.blend(maps)[0], features(maps)[0]
    torch.testing.assert_close(averaged[:, :, 5, 7], fused[:, :, 4:7, 6:9].mean(dim=(2, 3)))
    torch.testing.assert_close(averaged[:, :, 0, 0], fused[:, :, :2, :2].mean(dim=(2, 3)))


def test_both_scales_lie_side_by_side() -> None:
    """At the finer resolution, the coarser one interpolated."""
    two, three = _maps(5)
    both = side_by_side((two, torch.ones_like(three)))
    assert torch.equal(both[:, :4], two)
    torch.testing.assert_close(both[:, 4:], torch.ones(3, 6, 12, 12))


def test_prototypes_are_the_seeds_and_no_more_than_maps() -> None:
    """The same seed gives the same; with fewer maps than asked for, each is one."""
    maps = np.random.default_rng(1).random((6, 2, 3, 3)).astype(np.float16)
    first, again = (prototypes_of(maps, 3, 5) for _ in range(2))
    assert torch.equal(first, again)
    every = prototypes_of(maps, 20, 5)
    np.testing.assert_allclose(
        np.sort(every.numpy(), axis=0), np.sort(maps.astype(np.float32), axis=0), atol=1e-6
    )

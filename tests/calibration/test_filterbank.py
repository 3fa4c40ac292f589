"""The built-in backbone: a fixed function of the picture, the same everywhere."""

from __future__ import annotations

import math

import pytest
import torch

from calibration.backbones import load_backbone
from calibration.backbones.filterbank import (
    MEAN_WEIGHT,
    NOISE_FLOOR,
    ORIENTATIONS,
    FilterBank,
    gabor_pairs,
)

CENTRE = (slice(2, -2), slice(2, -2))
"""Patches whose filters don't reach over the border."""


def _grating(angle: float, wavelength: float = 4.0, side: int = 96) -> torch.Tensor:
    """(1, 3, side, side) grey waves that travel in the direction of an angle."""
    y, x = torch.meshgrid(torch.arange(side) * 1.0, torch.arange(side) * 1.0, indexing="ij")
    phase = 2 * math.pi * (x * math.cos(angle) + y * math.sin(angle)) / wavelength
    return torch.sin(phase).expand(1, 3, side, side)


def test_filters_see_no_brightness() -> None:
    """Each filter has mean 0 and energy 1."""
    filters = gabor_pairs()
    assert filters.shape == (2 * ORIENTATIONS, 1, 9, 9)
    torch.testing.assert_close(filters.sum(dim=(1, 2, 3)), torch.zeros(16), atol=1e-5, rtol=0)
    torch.testing.assert_close(filters.square().sum(dim=(1, 2, 3)), torch.ones(16))


@pytest.mark.parametrize("size", [(64, 96), (96, 96)])
def test_stages_have_their_channels_and_strides(size: tuple[int, int]) -> None:
    """Three maps at strides 4, 8 and 16, as of any backbone."""
    network = FilterBank()
    stages = network(torch.rand(2, 3, *size))
    for stage, channels, stride in zip(stages, network.channels, network.strides, strict=True):
        assert stage.shape == (2, channels, size[0] // stride, size[1] // stride)


def test_it_is_the_same_everywhere() -> None:
    """No seed and no state enters: the weights' hash is the same in each process."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = load_backbone("filterbank").sha256
        torch.manual_seed(2)
        assert load_backbone("filterbank").sha256 == first


def test_it_has_nothing_to_train() -> None:
    """Its filters are buffers; no gradient, no drift."""
    assert list(FilterBank().parameters()) == []


@pytest.mark.parametrize("index", range(ORIENTATIONS))
def test_waves_excite_the_filter_of_their_direction(index: int) -> None:
    """Of the eight brightness energies of the finest stage the matching one is the highest."""
    finest, _, _ = FilterBank()(_grating(math.pi * index / ORIENTATIONS))
    energies = finest[0, :ORIENTATIONS][:, *CENTRE].mean(dim=(1, 2))
    assert int(energies.argmax()) == index


@pytest.mark.parametrize(("wavelength", "octave"), [(4, 0), (8, 1), (16, 2)])
def test_coarser_waves_excite_coarser_octaves(wavelength: int, octave: int) -> None:
    """Each stage is tuned to waves twice as long as those of the one before."""
    stages = FilterBank()(_grating(0.0, wavelength, side=256))
    energies = [float(stage[0, 0][CENTRE].mean()) for stage in stages]
    assert energies.index(max(energies)) == octave


def test_a_plain_picture_has_no_energy() -> None:
    """What is left are the mean and the floor that keeps grain from counting as structure."""
    finest, _, _ = FilterBank()(torch.full((1, 3, 64, 64), 0.5))
    amplitudes = finest[:, : 3 * ORIENTATIONS]
    floor = finest[:, -1]
    assert float(amplitudes.max()) < 0.04
    noise = math.sqrt(NOISE_FLOOR * math.sqrt(ORIENTATIONS))
    torch.testing.assert_close(floor, torch.full_like(floor, noise))
    mean = math.sqrt(0.5 * MEAN_WEIGHT)
    torch.testing.assert_close(finest[:, 24], torch.full_like(floor, mean), atol=1e-5, rtol=0)

"""The U-Net's bottom and way up."""

from __future__ import annotations

import pytest
import torch

from calibration.prn.decoder import Bottom, Decoder


@pytest.mark.parametrize("size", [(16, 16), (7, 9)])
def test_the_bottom_halves_the_map_and_doubles_the_channels(size: tuple[int, int]) -> None:
    """Odd sizes are rounded up, as in the backbone."""
    half = tuple((side + 1) // 2 for side in size)
    assert Bottom(8)(torch.rand(2, 8, *size)).shape == (2, 16, *half)


def test_the_decoder_ends_at_twice_the_finest_map() -> None:
    """One logit per pixel."""
    sizes = [(16, 24), (8, 12), (4, 6)]
    skips = [torch.rand(2, c, *size) for c, size in zip((6, 8, 10), sizes, strict=True)]
    decoder = Decoder(20, (6, 8, 10), (3, 4, 5), sizes)
    assert decoder(torch.rand(2, 20, 2, 3), skips).shape == (2, 1, 32, 48)


def test_every_skip_connection_reaches_the_logits() -> None:
    """Changing any of the four inputs changes the output."""
    torch.manual_seed(0)
    sizes = [(8, 8), (4, 4), (2, 2)]
    inputs = [torch.rand(2, 4, *size) for size in (*sizes, (1, 1))]
    decoder = Decoder(4, (4, 4, 4), (4, 4, 4), sizes).eval()
    before = decoder(inputs[3], inputs[:3])
    for index in range(4):
        changed = [x + 1 if place == index else x for place, x in enumerate(inputs)]
        assert not torch.allclose(decoder(changed[3], changed[:3]), before, atol=1e-6)

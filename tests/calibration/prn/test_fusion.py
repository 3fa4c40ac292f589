"""Fusion blocks: equation 2 and figure 4."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from calibration.prn.fusion import Down, Fusion, Up

CHANNELS = (4, 6, 8)


def _maps(sizes: list[tuple[int, int]], batch: int = 2) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(batch, c, *size) for c, size in zip(CHANNELS, sizes, strict=True)]


@pytest.mark.parametrize(
    "sizes",
    [[(16, 24), (8, 12), (4, 6)], [(15, 9), (8, 5), (4, 3)], [(56, 56), (28, 28), (14, 14)]],
)
def test_each_scale_keeps_its_shape(sizes: list[tuple[int, int]]) -> None:
    """Odd sizes too: a stride rounds up, as in the backbone."""
    maps = _maps(sizes)
    fused = Fusion(CHANNELS, sizes)(maps)
    assert [x.shape for x in fused] == [x.shape for x in maps]


def test_an_output_is_the_sum_of_the_transformed_inputs() -> None:
    """Equation 2; the input of the same scale is added as it is."""
    sizes = [(16, 16), (8, 8), (4, 4)]
    maps = _maps(sizes)
    fusion = Fusion(CHANNELS, sizes).eval()
    rows = [row.transforms for row in fusion.rows]  # type: ignore[union-attr]
    for j, (row, found) in enumerate(zip(rows, fusion(maps), strict=True)):
        expected = sum(f(x) for f, x in zip(row, maps, strict=True))  # type: ignore[operator, arg-type]
        torch.testing.assert_close(found, expected)
        assert isinstance(row[j], nn.Identity)  # type: ignore[index]


@pytest.mark.parametrize(("steps", "kernel", "padding"), [(1, 3, 1), (2, 5, 2)])
def test_the_way_down_is_the_papers_convolution(steps: int, kernel: int, padding: int) -> None:
    """Stride 2^(j-r), kernel 2^(j-r) + 1, padding 2^(j-r-1), one filter per channel."""
    depth = Down(6, 4, steps).depth
    assert depth.stride == (2**steps, 2**steps)
    assert depth.kernel_size == (kernel, kernel)
    assert depth.padding == (padding, padding)
    assert depth.groups == 6


def test_the_way_up_may_convolve_first() -> None:
    """Bilinear up-sampling and then the 1x1 convolution, the paper's order, gives the same."""
    up = Up(6, 4, (16, 24)).eval()
    up.norm.running_mean.uniform_()  # type: ignore[union-attr, operator]
    x = torch.randn(2, 6, 4, 6, generator=torch.manual_seed(0))
    large = functional.interpolate(x, size=(16, 24), mode="bilinear", align_corners=False)
    torch.testing.assert_close(up(x), up.norm(up.point(large)), atol=1e-5, rtol=1e-5)

"""Attention over patches of four sizes: equation 3."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from calibration.prn.attention import MultiSizeAttention, attend, patches


@pytest.mark.parametrize("size", [(64, 64), (16, 24), (14, 14), (7, 5)])
def test_a_layer_keeps_the_shape(size: tuple[int, int]) -> None:
    """Where 8 divides the map and where it doesn't."""
    x = torch.randn(2, 16, *size, generator=torch.manual_seed(0))
    assert MultiSizeAttention(16, size)(x).shape == x.shape


def test_a_layer_begins_as_the_identity() -> None:
    """What attention adds starts at nothing, so that a deep stack can be trained at once."""
    x = torch.rand(2, 16, 8, 8, generator=torch.manual_seed(0))
    torch.testing.assert_close(MultiSizeAttention(16, (8, 8))(x), x)


def test_patches_are_cut_row_by_row() -> None:
    """Patch (1, 0) of 2 x 2 is the lower left quarter, flattened channel by channel."""
    x = torch.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6)
    found = patches(x, 2)
    assert found.shape == (2, 4, 3 * 2 * 3)
    torch.testing.assert_close(found[1, 2], x[1, :, 2:, :3].flatten())


@pytest.mark.parametrize("splits", [2, 4, 8])
def test_a_head_is_equation_3(splits: int) -> None:
    """Computed patch by patch; the products are divided by the patch's length, not its root."""
    torch.manual_seed(0)
    query, key, value = (3 * torch.randn(2, 5, 8, 16) for _ in range(3))
    found = attend(query, key, value, splits)
    height, width = 8 // splits, 16 // splits
    cells = [
        (slice(r, r + height), slice(c, c + width))
        for r in range(0, 8, height)
        for c in range(0, 16, width)
    ]
    length = 5 * height * width
    for one in range(2):
        for rows, columns in cells:
            products = [
                (query[one, :, rows, columns] * key[one, :, r, c]).sum() / length for r, c in cells
            ]
            weights = functional.softmax(torch.stack(products), dim=0)
            expected = sum(
                weight * value[one, :, r, c] for weight, (r, c) in zip(weights, cells, strict=True)
            )
            torch.testing.assert_close(found[one, :, rows, columns], expected, atol=1e-5, rtol=1e-4)


def test_a_single_patch_attends_to_itself() -> None:
    """The head with patches of size h returns its values: a softmax of one number is 1."""
    value = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(attend(value + 1, value - 1, value, 1), value)

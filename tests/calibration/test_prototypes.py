"""Prototypes: k-means from dot products, and the residual to the nearest map."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.prototypes import (
    NearestMap,
    Prototypes,
    cluster_rows,
    dot_products,
    lloyd,
    prototype_count,
)


def _rows(seed: int, count: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (count, 12)).astype(np.float32)


def _plain_kmeans(rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Lloyd's rounds the obvious way, from the same start."""
    centres = rows[np.random.default_rng(seed).choice(len(rows), count, replace=False)]
    for _ in range(300):
        labels = ((rows[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
        centres = np.stack([rows[labels == index].mean(axis=0) for index in range(count)])
    return centres


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_clusters_are_those_of_plain_k_means(seed: int) -> None:
    """Dot products alone lead to the same means as distances to explicit centres."""
    rows = _rows(seed)
    found = cluster_rows(rows, 4, seed)
    np.testing.assert_allclose(found, _plain_kmeans(rows, 4, seed), atol=1e-5)


def test_prototypes_are_the_same_for_the_same_seed() -> None:
    """And other ones for another seed, where the start decides."""
    rows = _rows(3)
    first, again, other = (cluster_rows(rows, 5, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 12), distinct=st.integers(1, 12))
def test_no_cluster_is_left_empty(seed: int, count: int, distinct: int) -> None:
    """Not even where pictures are the same and the centres fall on one point."""
    rows = np.repeat(_rows(seed, distinct), 12, axis=0)[:12]
    labels = lloyd(dot_products(rows), count, seed)
    assert set(labels) == set(range(count))


def test_every_picture_as_prototype_is_the_picture() -> None:
    """Table 6's 100 %: K = N, nothing is averaged."""
    rows = _rows(4, 6)
    found = cluster_rows(rows, 6, 0)
    np.testing.assert_allclose(np.sort(found, axis=0), np.sort(rows, axis=0), atol=1e-6)


def test_half_precision_rows_are_averaged_in_single() -> None:
    """Sums of half-precision features would overflow at 65,504."""
    rows = np.full((8, 3), 30_000, np.float16)
    np.testing.assert_allclose(cluster_rows(rows, 1, 0), 30_000, rtol=1e-3)


@pytest.mark.parametrize(
    ("pictures", "ratio", "most", "count"),
    [(209, 0.1, 40, 21), (761, 0.1, 40, 40), (3, 0.1, 40, 1), (20, 1.0, 40, 20)],
)
def test_ten_percent_of_the_pictures_within_a_bound(
    pictures: int, ratio: float, most: int, count: int
) -> None:
    """At least one; the bound keeps the model's file small."""
    assert prototype_count(pictures, ratio, most) == count


@pytest.mark.parametrize("residual", ["absolute", "squared"])
def test_the_residual_is_to_the_nearest_map(residual: str) -> None:
    """Equation 1, computed map by map."""
    generator = torch.manual_seed(0)
    maps = torch.rand((5, 3, 4, 6), generator=generator)
    pictures = torch.rand((7, 3, 4, 6), generator=generator)
    module = Prototypes(maps, residual)  # type: ignore[arg-type]
    found = module(pictures)
    assert found.shape == (7, 3, 4, 6)
    for picture, row in zip(pictures, found, strict=True):
        nearest = min(maps, key=lambda one: float((one - picture).norm()))
        difference = (picture - nearest).abs()
        expected = difference if residual == "absolute" else difference**2
        torch.testing.assert_close(row, expected)


def test_a_prototype_has_no_residual_to_itself() -> None:
    """Each is its own nearest."""
    maps = torch.rand((4, 2, 3, 3), generator=torch.manual_seed(1))
    module = Prototypes(maps, "absolute")
    assert module.nearest(maps).tolist() == [0, 1, 2, 3]
    assert not module(maps).any()


def test_mixed_precision_leaves_distances_exact() -> None:
    """Under autocast, too, the residual is that of single precision."""
    maps = 100 + torch.rand((4, 2, 8, 8), generator=torch.manual_seed(2))
    module = Prototypes(maps, "absolute")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = module(maps)
    assert found.dtype == torch.float32
    assert not found.any()


def test_the_nearest_prototype_is_found() -> None:
    """By the distance of whole maps, compared one by one."""
    generator = torch.manual_seed(3)
    prototypes = torch.rand((5, 6, 4, 4), generator=generator)
    maps = torch.rand((4, 6, 4, 4), generator=generator)
    for one, near in zip(maps, NearestMap(prototypes)(maps), strict=True):
        distances = [float((one - prototype).norm()) for prototype in prototypes]
        assert torch.equal(near, prototypes[int(np.argmin(distances))])

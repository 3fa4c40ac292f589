"""FINCH against its definition, by hand, and the search in lists against all pairs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from calibration import finch as module
from calibration.finch import Partition, coarser, finch, first_neighbours, normalised, recall

Floats = npt.NDArray[np.float32]

few = settings(max_examples=60, deadline=None)


@st.composite
def unit_rows(draw: st.DrawFn) -> Floats:
    """2 to 40 points in 2 to 5 dimensions; in half of the cases from a grid, with duplicates."""
    shape = (draw(st.integers(2, 40)), draw(st.integers(2, 5)))
    grid = st.integers(-2, 2).map(float)
    free = st.floats(-1, 1, width=32)
    rows = draw(hnp.arrays(np.float32, shape, elements=draw(st.sampled_from([grid, free]))))
    rows[np.linalg.norm(rows, axis=1) < 1e-3, 0] = 1.0
    return normalised(rows)


@pytest.fixture
def lists_of_32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches in lists of about 32 from 100 points on, in at most 8 parts per split."""
    monkeypatch.setattr(module, "EXACT_BELOW", 100)
    monkeypatch.setattr(module, "LIST_LENGTH", 32)
    monkeypatch.setattr(module, "LIST_MOST", 64)
    monkeypatch.setattr(module, "BRANCHES", 8)


def _on_circle(*degrees: float) -> Floats:
    angles = np.deg2rad(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def _clustered(count: int, channels: int, seed: int = 0) -> Floats:
    """Points around count / 50 centres, with a spread of half the centres' own."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((count // 50, channels))
    spread = rng.standard_normal((count, channels)) / 2
    return normalised((centres[rng.integers(0, len(centres), count)] + spread).astype(np.float32))


def _equation_1(neighbours: npt.NDArray[np.int64]) -> set[frozenset[int]]:
    """Components of the full adjacency matrix of equation 1, by transitive closure."""
    count = len(neighbours)
    first = np.zeros((count, count), dtype=bool)
    first[np.arange(count), neighbours] = True
    linked = first | first.T | (neighbours[:, None] == neighbours[None, :])
    for via in range(count):
        linked |= linked[:, via : via + 1] & linked[via]
    return {frozenset(np.flatnonzero(row).tolist()) for row in linked}


@few
@given(unit_rows())
def test_the_first_partition_is_that_of_equation_1(points: Floats) -> None:
    """The n stored links give the components of the full adjacency, with their means and sizes."""
    neighbours = first_neighbours(points)
    labels = module._components(neighbours)
    parts = [np.flatnonzero(labels == label) for label in range(labels.max() + 1)]
    assert {frozenset(part.tolist()) for part in parts} == _equation_1(neighbours)
    first = finch(points, fewer_than=len(points) + 1)[0]
    assert first.sizes.tolist() == [len(part) for part in parts]
    means = np.stack([points[part].mean(axis=0) for part in parts])
    np.testing.assert_allclose(first.means, means, atol=1e-6)


@few
@given(unit_rows())
def test_a_first_neighbour_is_the_nearest_other_point(points: Floats) -> None:
    """Never the point itself, also among duplicates, and none is nearer."""
    neighbours = first_neighbours(points)
    cosines = points @ points.T
    np.fill_diagonal(cosines, -np.inf)
    assert (neighbours != np.arange(len(points))).all()
    found = cosines[np.arange(len(points)), neighbours]
    np.testing.assert_allclose(found, cosines.max(axis=1), atol=1e-6)


def test_two_levels_by_hand() -> None:
    """Pairs a degree apart join first, then the pairs ten degrees apart, then all."""
    pairs = _on_circle(0, 1, 10, 11, 90, 91, 100, 101)
    first, second, third = finch(pairs, fewer_than=2)
    assert first.sizes.tolist() == [2, 2, 2, 2]
    np.testing.assert_allclose(first.means, pairs.reshape(4, 2, 2).mean(axis=1), atol=1e-6)
    assert second.sizes.tolist() == [4, 4]
    np.testing.assert_allclose(second.means, pairs.reshape(2, 4, 2).mean(axis=1), atol=1e-6)
    assert third.sizes.tolist() == [8]
    np.testing.assert_allclose(third.means, pairs.mean(axis=0)[None], atol=1e-6)


def test_a_mean_is_that_of_the_points_and_not_of_the_means_below() -> None:
    """Where clusters of three and two points join, all five points count the same."""
    points = _on_circle(0, 1, 1.5, 10, 11, 90, 91, 100, 101)
    _, second = finch(points, fewer_than=3)
    assert second.sizes.tolist() == [5, 4]
    np.testing.assert_allclose(second.means[0], points[:5].mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("fewer_than", [1, 2, 50, 100, 10_000])
def test_the_hierarchy_ends_at_the_first_small_enough_partition(fewer_than: int) -> None:
    """All partitions but the last are too large, or there is nothing left to join."""
    points = _clustered(1_000, 8)
    counts = [len(partition.means) for partition in finch(points, fewer_than=fewer_than)]
    assert all(count >= fewer_than for count in counts[:-1])
    assert counts[-1] < fewer_than or counts[-1] == 1
    assert all(below >= 2 * above for below, above in pairwise(counts))


def test_each_partition_holds_all_points() -> None:
    """Sizes add up to N, and the weighted means to the sum of the points."""
    points = _clustered(2_000, 8)
    for partition in finch(points, fewer_than=2):
        assert partition.sizes.sum() == len(points)
        total = (partition.means * partition.sizes[:, None]).sum(axis=0)
        np.testing.assert_allclose(total, points.sum(axis=0), atol=0.01)


def test_coarser_is_the_next_level() -> None:
    """It continues where the stopping rule ended, and ends with one cluster."""
    points = _clustered(1_000, 8)
    partitions = finch(points, fewer_than=2)
    for below, above in pairwise(partitions):
        found = coarser(below)
        assert found is not None
        np.testing.assert_array_equal(found.means, above.means)
        np.testing.assert_array_equal(found.sizes, above.sizes)
    assert coarser(partitions[-1]) is None


def test_one_point_is_one_cluster() -> None:
    """A single point is its own neighbour, and there is no level above."""
    points = _on_circle(30)
    (only,) = finch(points, fewer_than=1)
    assert only.sizes.tolist() == [1]
    np.testing.assert_allclose(only.means, points)


def test_all_pairs_are_compared_block_by_block() -> None:
    """More points than a block holds, but few enough for all pairs, find the true neighbours."""
    points = _clustered(2 * module.BLOCK + 100, 8)
    neighbours = first_neighbours(points)
    assert (neighbours != np.arange(len(points))).all()
    assert recall(points, neighbours) == 1.0


def test_recall_is_that_of_the_neighbours_given() -> None:
    """True neighbours give 1, half of them turned into far points 0.5."""
    points = _clustered(1_000, 8)
    neighbours = first_neighbours(points)
    neighbours[::2] = (points[::2] @ points.T).argmin(axis=1)
    assert recall(points, neighbours) == 0.5
    assert recall(points, neighbours, sample=300) == pytest.approx(0.5, abs=0.1)


def test_recall_in_lists_is_as_stated() -> None:
    """25,000 points in the lists that calibration uses: more than nine in ten are right."""
    points = _clustered(25_000, 16)
    neighbours = first_neighbours(points)
    assert (neighbours != np.arange(len(points))).all()
    assert 0.9 <= recall(points, neighbours) < 1.0


@pytest.mark.usefixtures("lists_of_32")
def test_more_probes_find_more() -> None:
    """Recall rises with the lists probed, to 1 where all are."""
    points = _clustered(3_000, 16)
    found = [recall(points, first_neighbours(points, probes=p)) for p in (2, 4, 8, 10_000)]
    assert found == sorted(found)
    assert found[0] < found[-1] == 1.0


@pytest.mark.usefixtures("lists_of_32")
def test_a_seed_gives_the_same_partitions() -> None:
    """Twice the same seed is the same result to the bit; another seed has other lists."""
    points = _clustered(3_000, 16)
    one, two, other = (finch(points, fewer_than=100, seed=seed) for seed in (1, 1, 2))
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.means, b.means)
        np.testing.assert_array_equal(a.sizes, b.sizes)
    assert not np.array_equal(one[0].sizes, other[0].sizes)


@pytest.mark.usefixtures("lists_of_32")
@pytest.mark.parametrize("distinct", [1, 2, 300])
def test_many_duplicates_do_not_lengthen_the_lists(distinct: int) -> None:
    """A thousand copies of a point, as from a plain background, are cut into lists all the same."""
    few_others = _clustered(300, 8)[:distinct]
    points = np.concatenate([np.repeat(few_others[:1], 1_000, axis=0), few_others])
    points = np.random.default_rng(0).permutation(points)
    lists = module._lists(points, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(np.concatenate(lists)), np.arange(len(points)))
    assert all(0 < len(members) <= module.LIST_MOST for members in lists)
    neighbours = first_neighbours(points)
    assert (neighbours != np.arange(len(points))).all()
    partitions = finch(points, fewer_than=2)
    assert partitions[-1].sizes.tolist() == [len(points)]


@pytest.mark.usefixtures("lists_of_32")
def test_progress_rises_to_all_points() -> None:
    """Progress only grows and each level ends with all of its points."""
    points = _clustered(1_000, 8)
    seen: list[tuple[int, int]] = []
    partitions = finch(
        points, fewer_than=300, report=lambda done, total: seen.append((done, total))
    )
    totals = [len(points), *(len(partition.means) for partition in partitions[:-1])]
    for total in totals:
        dones = [done for done, of in seen if of == total]
        assert dones == sorted(set(dones))
        assert dones[-1] == total


def test_normalised_keeps_a_zero_row() -> None:
    """Rows get length 1, a zero row stays zero, and the argument stays as it is."""
    rows = np.array([[3, 4], [0, 0]], np.float32)
    np.testing.assert_allclose(normalised(rows), [[0.6, 0.8], [0.0, 0.0]])
    assert rows[0, 0] == 3


def test_a_partition_is_frozen() -> None:
    """A level of the hierarchy can't be changed by who is given it."""
    level = Partition(np.zeros((1, 2), np.float32), np.array([1]))
    with pytest.raises(AttributeError):
        level.sizes = np.array([2])  # type: ignore[misc]

"""ProtoAD's heads and its choice of prototypes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.backbones import load_backbone
from calibration.finch import Partition, coarser, normalised
from calibration.projected import (
    ProjectedHead,
    deviations,
    every_eighth,
    every_fourth,
    learn_projection,
    neighbourhoods,
    worst_covered,
)
from calibration.scorers import Material, scorer_named
from calibration.scorers.protoad import (
    MAX_PATCHES,
    PATCH_BYTES,
    ProtoAD,
    PublishedHead,
    RewrittenHead,
    Stages,
    choose_partition,
    default_max_patches,
    patch_features,
)
from inspectd.core.errors import ConfigError
from inspectd.core.records import ImageArray


def _stages(
    seed: int,
    channels: tuple[int, ...] = (5, 7, 9),
    size: tuple[int, int] = (8, 12),
    batch: int = 2,
) -> Stages:
    """Random maps of stride 1, 2 and 4, as after ReLUs: not negative, and some zero."""
    torch.manual_seed(seed)
    one, two, three = (
        torch.randn(batch, count, size[0] // stride, size[1] // stride).relu()
        for count, stride in zip(channels, (1, 2, 4), strict=True)
    )
    return one, two, three


def _prototypes(seed: int, count: int, channels: int) -> torch.Tensor:
    generator = torch.manual_seed(seed)
    return torch.nn.functional.normalize(torch.rand((count, channels), generator=generator))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 70),
    tile=st.integers(1, 80),
    channels=st.tuples(*[st.integers(1, 12)] * 3),
    size=st.sampled_from([(4, 4), (8, 12), (16, 4)]),
)
def test_both_heads_are_one_function(
    seed: int, count: int, tile: int, channels: tuple[int, ...], size: tuple[int, int]
) -> None:
    """Moving the convolution before the upsampling changes nothing, whatever the tiles."""
    stages = _stages(seed, channels, size)
    prototypes = _prototypes(seed, count, sum(channels))
    published = PublishedHead(prototypes)(stages)
    rewritten = RewrittenHead(prototypes, channels, tile)(stages)
    assert rewritten.shape == published.shape == (2, 1, *size)
    torch.testing.assert_close(rewritten, published, atol=1e-5, rtol=0)


def test_both_heads_agree_on_empty_features() -> None:
    """A patch without any activation resembles no prototype: both say 1, not NaN."""
    nothing = tuple(torch.zeros_like(stage) for stage in _stages(0))
    prototypes = _prototypes(0, 3, 21)
    for head in (PublishedHead(prototypes), RewrittenHead(prototypes, (5, 7, 9), 2)):
        torch.testing.assert_close(head(nothing), torch.ones(2, 1, 8, 12))


def _upsampled(values: np.ndarray, factor: int) -> np.ndarray:
    """(C, h, w) to (C, factor h, factor w), bilinear between pixel centres, pixel by pixel."""
    channels, height, width = values.shape
    out = np.empty((channels, height * factor, width * factor))
    for row in range(height * factor):
        for column in range(width * factor):
            y = min(max((row + 0.5) / factor - 0.5, 0), height - 1)
            x = min(max((column + 0.5) / factor - 0.5, 0), width - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            upper = values[:, top, left] * (1 - x + left) + values[:, top, right] * (x - left)
            lower = values[:, bottom, left] * (1 - x + left) + values[:, bottom, right] * (x - left)
            out[:, row, column] = upper * (1 - y + top) + lower * (y - top)
    return out


@pytest.mark.parametrize("tile", [4, 256])
def test_the_score_is_one_minus_the_highest_cosine(tile: int) -> None:
    """Equation 3, computed slowly: upsample, concatenate, then each patch with each prototype."""
    stages = _stages(7)
    prototypes = _prototypes(7, 11, 21).numpy()
    rewritten = RewrittenHead(torch.from_numpy(prototypes), (5, 7, 9), tile)(stages)
    for picture in range(2):
        one, two, three = (stage[picture].numpy() for stage in stages)
        patches = np.concatenate([one, _upsampled(two, 2), _upsampled(three, 4)])  # (21, 8, 12)
        for row in range(8):
            for column in range(12):
                patch = patches[:, row, column]
                cosines = [
                    patch @ p / np.linalg.norm(patch) / np.linalg.norm(p) for p in prototypes
                ]
                score = float(rewritten[picture, 0, row, column])
                assert score == pytest.approx(1 - max(cosines), abs=1e-5)


def test_features_have_length_one() -> None:
    """Stages are upsampled to the finest, concatenated and normalised at each position."""
    features = patch_features(_stages(3))
    assert features.shape == (2, 21, 8, 12)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2, 8, 12))


def _partitions() -> list[Partition]:
    """Three levels of 12, 6 and 4 clusters around four directions."""
    rng = np.random.default_rng(0)
    levels = []
    for count in (12, 6, 4):
        means = np.eye(4, dtype=np.float32)[np.arange(count) % 4]
        means = means + rng.normal(0, 0.01, (count, 4)).astype(np.float32)
        levels.append(Partition(means, np.full(count, 24 // count)))
    return levels


@pytest.mark.parametrize(("which", "index"), [(0, 2), (1, 0), (2, 1), (3, 2)])
def test_a_partition_is_chosen_from_the_finest(which: int, index: int) -> None:
    """1 is the finest, counted upwards; 0 is the stopping rule's, the last."""
    partitions = _partitions()
    assert choose_partition(partitions, which, seed=0) is partitions[index]


def test_a_coarser_partition_is_made_on_demand() -> None:
    """-1 is one level above the stopping rule's."""
    partitions = _partitions()
    chosen = choose_partition(partitions, -1, seed=0)
    expected = coarser(partitions[-1], seed=0)
    assert expected is not None
    np.testing.assert_array_equal(chosen.means, expected.means)
    assert len(chosen.means) < 4
    assert chosen.sizes.sum() == 24


@pytest.mark.parametrize(
    ("which", "match"),
    [(4, r"gave 3 partitions \(12, 6, 4\), not 4"), (-9, "no partition 9 levels")],
)
def test_a_partition_that_does_not_exist_is_refused(which: int, match: str) -> None:
    """The refusal says which there are."""
    with pytest.raises(ConfigError, match=match):
        choose_partition(_partitions(), which, seed=0)


@pytest.mark.parametrize("channels", [84, 448, 1792])
def test_patches_fit_into_memory(channels: int) -> None:
    """Twice the patches, their own and what clustering takes, stay within the stated bytes."""
    count = default_max_patches(channels)
    assert 2 * 4 * channels * count <= PATCH_BYTES
    assert 100_000 < count <= MAX_PATCHES


def _images() -> list[ImageArray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(5)]


@pytest.mark.parametrize("head", ["rewritten", "published"])
def test_a_fit_keeps_its_bounds(head: str) -> None:
    """Fewer prototypes than the stopping rule's, from no more patches than asked for."""
    scorer = ProtoAD(max_prototypes=60, max_patches=500, head=head)
    done: list[str] = []
    fitted = scorer.fit(
        Material(_images()), load_backbone("filterbank"), 0, lambda what, *_: done.append(what)
    )
    assert fitted.facts["patches"] == "500 of 84 channels"
    assert int(fitted.facts["prototypes"]) < 60
    kind = RewrittenHead if head == "rewritten" else PublishedHead
    assert any(isinstance(module, kind) for module in fitted.head.modules())
    assert done[0] == "extracting features"
    assert done[-1].startswith("clustering")


def test_a_fit_is_repeatable() -> None:
    """The same pictures and seed give the same unit prototypes; another seed gives others."""
    scorer = ProtoAD(max_prototypes=60, max_patches=500, head="published")
    backbone = load_backbone("filterbank")
    first, again, other = (
        next(scorer.fit(Material(_images()), backbone, seed, lambda *_: None).head.parameters())[
            ..., 0, 0
        ]
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert first.shape != other.shape or not torch.equal(first, other)
    torch.testing.assert_close(first.norm(dim=1), torch.ones(len(first)))


def test_a_head_that_does_not_exist_is_refused_at_once() -> None:
    """Not after minutes of clustering."""
    with pytest.raises(ConfigError, match="no head is called 'rewriten'; known: projected, rewri"):
        ProtoAD(head="rewriten")


def test_a_scorer_that_does_not_exist_is_refused() -> None:
    """The refusal lists those there are."""
    with pytest.raises(ConfigError, match="no scorer is called 'patchcore'; known: protoad"):
        scorer_named("patchcore")


def test_options_make_the_same_scorer_again() -> None:
    """What the manifest keeps is enough to fit anew."""
    scorer = ProtoAD(max_prototypes=60, partition=-1, max_patches=500, head="published")
    assert scorer_named(scorer.name, **scorer.options()) == scorer


def test_coverage_adds_the_patches_that_the_means_cover_worst() -> None:
    """As many as are asked for, none twice; the paper's heads add none by themselves."""
    points = normalised(np.random.default_rng(0).random((300, 8), np.float32))
    means = points[:5]
    extra = worst_covered(points, means, 20)
    assert len(np.unique(extra, axis=0)) == 20
    gaps = 1 - (points @ means.T).max(axis=1)
    np.testing.assert_array_equal(extra[0], points[gaps.argmax()])
    after = 1 - (points @ np.concatenate([means, extra]).T).max(axis=1)
    assert after.max() < gaps.max()


def test_points_that_are_covered_already_are_not_added() -> None:
    """More than there are can be asked for."""
    points = normalised(np.random.default_rng(0).random((12, 4), np.float32))
    assert len(worst_covered(points, points[:4], 1_000)) == 8


def test_a_projection_on_all_directions_changes_no_cosine() -> None:
    """It only turns the scaled patches."""
    patches = np.random.default_rng(1).random((500, 6), np.float32)
    projection = learn_projection(patches, 6, deviations(patches))
    scaled = normalised(patches / patches.std(axis=0))
    projected = projection(patches)
    assert projection.kept == pytest.approx(1.0)
    np.testing.assert_allclose(projected @ projected.T, scaled @ scaled.T, atol=1e-5)


def test_a_channel_that_never_changes_does_not_break_the_projection() -> None:
    """Its deviation is 0."""
    patches = np.random.default_rng(1).random((500, 6), np.float32)
    patches[:, 2] = 0
    projection = learn_projection(patches, 4, deviations(patches))
    assert np.isfinite(projection(patches)).all()


def test_the_compact_head_is_the_cosine_to_the_nearest_prototype() -> None:
    """Computed the slow way, position by position."""
    stages = _stages(3)
    rows = neighbourhoods(stages)  # (B, C, 4, 6)
    flat = rows.permute(0, 2, 3, 1).reshape(-1, 21).numpy()
    projection = learn_projection(flat, 10, deviations(flat))
    prototypes = projection(flat[::7])
    found = ProjectedHead(projection, prototypes, (5, 7, 9), every_eighth, 3)(stages)
    expected = 1 - (projection(flat) @ prototypes.T).max(axis=1)
    assert found.shape == (2, 1, 4, 6)
    np.testing.assert_allclose(found.flatten().numpy(), expected, atol=1e-5)


def test_the_projected_head_with_all_directions_is_the_papers_function() -> None:
    """A rotation leaves every cosine as it was."""
    stages, prototypes = _stages(4), _prototypes(5, 30, 21)
    rows = patch_features(stages).permute(0, 2, 3, 1).reshape(-1, 21).numpy()
    projection = learn_projection(rows, 21)
    projected = projection(prototypes.numpy())
    found = ProjectedHead(projection, projected, (5, 7, 9), every_fourth, 7)(stages)
    np.testing.assert_allclose(found, PublishedHead(prototypes)(stages), atol=2e-5)


def test_fewer_directions_keep_less() -> None:
    """What is kept says how much of the patches is left."""
    patches = np.random.default_rng(1).random((500, 12), np.float32)
    kept = [learn_projection(patches, count).kept for count in (2, 6, 12)]
    assert kept == sorted(kept)
    assert kept[0] < 0.999
    assert kept[2] == pytest.approx(1.0)


def test_coverage_is_a_number_of_patches() -> None:
    """Anything below -1 is a mistake."""
    with pytest.raises(ConfigError, match="coverage"):
        scorer_named("protoad", coverage=-2)


def test_nothing_is_learned_where_nothing_is_inspected() -> None:
    """What lies outside of the region may be anything: the same prototypes come of it."""
    region = np.zeros((64, 64), np.uint8)
    region[:, :8] = 255
    plain = _images()
    soiled = [image.copy() for image in plain]
    for image in soiled:
        image[:, 56:] = 255
    scorer, backbone = ProtoAD(max_prototypes=60, head="published"), load_backbone("builtin")
    first, other = (
        scorer.fit(Material(images, regions=[region] * 5), backbone, 0, lambda *_: None)
        for images in (plain, soiled)
    )
    assert first.facts["patches"] == f"{5 * 6 * 16:,} of 84 channels"
    assert torch.equal(*(next(fitted.head.parameters()) for fitted in (first, other)))

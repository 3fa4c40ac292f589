"""MPFNet as a scorer: its options, and what it learns from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from calibration.backbones import Backbone, load_backbone
from calibration.scorers import Fitted, Labelled, Material, scorer_named
from calibration.scorers.mpfnet import MPFNet
from inspectd.core.errors import ConfigError
from inspectd.core.records import ImageArray

QUICK = MPFNet(epochs=40, batch=64, max_prototypes=3, patience=90)


def _picture(seed: int) -> ImageArray:
    """Vertical stripes with some noise, 64 x 64."""
    noise = np.random.default_rng(seed).normal(0, 6, (64, 64, 3))
    stripes = 128 + 60 * np.sin(np.arange(64) / 3)[None, :, None]
    return np.clip(stripes + noise, 0, 255).astype(np.uint8)


def _defective(seed: int) -> Labelled:
    """The same with a bright square."""
    image, mask = _picture(seed).copy(), np.zeros((64, 64), np.uint8)
    image[24:40, 24:40] = 255
    mask[24:40, 24:40] = 255
    return Labelled(f"spot/{seed}.png", "spot", image, mask)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    """The built-in one."""
    return load_backbone("filterbank")


@pytest.fixture(scope="module")
def material() -> Material:
    """Twelve good pictures; a hold-out set of three good and three defective ones."""
    clean = np.zeros((64, 64), np.uint8)
    good = [Labelled(f"good/{seed}.png", "good", _picture(seed), clean) for seed in range(20, 23)]
    bad = [_defective(seed) for seed in range(30, 33)]
    return Material(good=[_picture(seed) for seed in range(12)], holdout=[*good, *bad])


@pytest.fixture(scope="module")
def fitted(material: Material, backbone: Backbone) -> Fitted:
    """Learned once."""
    return QUICK.fit(material, backbone, 0, lambda *_: None)


def _scores(fitted: Fitted, backbone: Backbone, images: list[ImageArray]) -> list[float]:
    """Of the whole graph."""
    from calibration.graph import ScoringGraph

    graph = ScoringGraph(backbone, fitted.head, (64, 64), fitted.sigma)
    with torch.inference_mode():
        return [float(graph(torch.from_numpy(image[None]))[1]) for image in images]


def test_defects_score_higher_than_good_parts(fitted: Fitted, backbone: Backbone) -> None:
    """Of pictures that were neither learned from nor held out."""
    good = _scores(fitted, backbone, [_picture(seed) for seed in range(50, 54)])
    bad = _scores(fitted, backbone, [_defective(seed).image for seed in range(60, 64)])
    assert min(bad) > max(good)


def test_the_fit_says_what_it_did(fitted: Fitted) -> None:
    """Whether there are prototypes, the hold-out figures, and a curve of each."""
    assert fitted.facts["prototypes"] == "none"
    assert "of 40 epochs" in fitted.facts["training"]
    assert "image AUROC" in fitted.facts["weights kept"]
    names = {curve.name.partition(",")[0] for curve in fitted.curves}
    assert names == {"loss", "hold-out figure"}
    assert (fitted.sigma, fitted.top_pixels) == (4.0, 1)


def test_the_same_seed_learns_the_same(
    fitted: Fitted, material: Material, backbone: Backbone
) -> None:
    """To the bit on the CPU; another seed learns something else."""
    again, other = (QUICK.fit(material, backbone, seed, lambda *_: None) for seed in (0, 1))
    assert torch.equal(again.head.bias, fitted.head.bias)
    assert not torch.equal(other.head.bias, fitted.head.bias)


@pytest.mark.parametrize("fusion", ["prototype", "residual"])
@pytest.mark.parametrize("scale", ["channel", "raw"])
def test_the_alternatives_learn_too(
    material: Material, backbone: Backbone, fusion: str, scale: str
) -> None:
    """Without a hold-out set the plan is done in full."""
    scorer = scorer_named("mpfnet", fusion=fusion, scale=scale, epochs=1, batch=32)
    learned = scorer.fit(replace(material, holdout=()), backbone, 0, lambda *_: None)
    assert learned.facts["prototypes"].startswith("1 whole map")
    assert "as planned" in learned.facts["training"]
    assert learned.remarks == ()
    assert {curve.name.partition(",")[0] for curve in learned.curves} == {"loss"}
    assert np.isfinite(_scores(learned, backbone, [_picture(1)])).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fusion": "sum"}, "known: residual, prototype, none"),
        ({"scale": "log"}, "known: common, channel, raw"),
        ({"ratio": 0.0}, "above 0 to 1"),
        ({"noise": -0.1}, "noise is a deviation"),
        ({"epochs": 0}, "epochs is 1 or more"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    options: dict[str, str | float | int], message: str
) -> None:
    """At once, with what would do."""
    with pytest.raises(ConfigError, match=message):
        scorer_named("mpfnet", **options)

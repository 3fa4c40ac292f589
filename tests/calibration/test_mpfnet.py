"""MPFNet as a scorer: its options, and what it learns from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from calibration.averaging import Averaged
from calibration.backbones import Backbone, load_backbone
from calibration.discriminator import Discriminating
from calibration.judging import judged
from calibration.scorers import Fitted, Labelled, Material, scorer_named
from calibration.scorers.mpfnet import MPFNet, _Course, _Holdout
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


def test_only_what_is_inspected_is_learned(material: Material, backbone: Backbone) -> None:
    """Rows outside of the region are neither drawn nor counted, nor do they set the scale."""
    region = np.zeros((64, 160), np.uint8)
    region[:, :8] = 255
    plain = [np.tile(image, (1, 3, 1))[:, :160] for image in material.good]
    soiled = [image.copy() for image in plain]
    for image in soiled:
        image[:, 110:] = 255
    scorer = MPFNet(epochs=1, batch=32)
    first, other = (
        scorer.fit(
            replace(material, good=good, regions=[region] * 12, holdout=()),
            backbone,
            0,
            lambda *_: None,
        )
        for good in (plain, soiled)
    )
    assert first.facts["features"].startswith(f"{12 * 4 * 8} rows")
    one, same = (torch.as_tensor(fitted.head.bias) for fitted in (first, other))
    assert torch.equal(one, same)


def _course(normality: float) -> _Course:
    """One whose discriminator gives the same number for every row."""
    network = Averaged(Discriminating(4))
    with torch.no_grad():
        network.network.last.weight.zero_()
        network.network.last.bias.fill_(normality)
    rows = np.ones((8, 4), np.float16)
    holdout = _Holdout(judged([]), np.empty((0, 1, 1, 4), np.float16), (8, 8))
    return _Course(network, rows, np.arange(8), holdout, 6, 0.1)


@pytest.mark.parametrize(
    ("normality", "good", "noisy"),
    [(0.0, 0.5, 0.5), (0.4, 0.1, 0.9), (2.0, 0.0, 2.5), (-2.0, 2.5, 0.0)],
)
def test_the_loss_is_equation_7(normality: float, good: float, noisy: float) -> None:
    """Normal rows shall lie above 0.5, those with noise below -0.5; what does costs nothing."""
    found = _course(normality).losses(0, np.random.default_rng(0))
    assert float(found["good"].detach()) == pytest.approx(good, abs=1e-6)
    assert float(found["with noise"].detach()) == pytest.approx(noisy, abs=1e-6)


def test_rates_and_decay_are_the_papers() -> None:
    """Section V.1: 1.5e-4 for the adapter, 2e-4 for the discriminator, 1e-5 for both; all learn."""
    course = _course(0.0)
    groups = {name: one.param_groups[0] for name, one in course.optimisers.items()}
    rates = {name: (group["lr"], group["weight_decay"]) for name, group in groups.items()}
    assert rates == {"adapter": (1.5e-4, 1e-5), "discriminator": (2e-4, 1e-5)}
    learned = {id(one) for group in groups.values() for one in group["params"]}
    assert learned == {id(one) for one in course.model.network.parameters()}

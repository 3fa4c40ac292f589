"""The PRN scorer: options, a fit, a resumed one, and a revision made with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from calibration.backbones import load_backbone
from calibration.calibrate import Request, calibrate
from calibration.dataset import PreparedImages, find_good, find_holdout
from calibration.material import PreparedSamples, draw_seen
from calibration.prn.attention import MultiSizeAttention
from calibration.prn.examples import kinds_named
from calibration.prn.fusion import Fusion
from calibration.prototypes import Prototypes
from calibration.scorers import Fitted, Material, scorer_named
from calibration.scorers.prn import PRNScorer, Schedule
from inspectd.core.errors import ConfigError, DatasetError
from inspectd.core.preprocess import Preprocessing
from inspectd.core.records import MaskArray
from inspectd.core.store import ProductStore

SIZE = (64, 64)
QUICK: dict[str, Any] = {"batch": 4, "epochs": 1}


@pytest.fixture(scope="module")
def material(tiny_data: Path) -> Material:
    """The tiny product, two of its defects to learn from."""
    preprocessing = Preprocessing(resize=SIZE, crop=SIZE)
    seen, rest = draw_seen(find_holdout(tiny_data / "holdout"), 2, seed=0)
    return Material(
        good=PreparedImages(find_good(tiny_data)[:6], preprocessing),
        holdout=PreparedSamples(rest, preprocessing),
        seen=PreparedSamples(seen, preprocessing),
    )


def _fit(material: Material, seed: int = 0, **options: Any) -> Fitted:
    scorer = PRNScorer(**{**QUICK, **options})
    return scorer.fit(material, load_backbone("filterbank"), seed, lambda *_: None)


def _weights(fitted: Fitted) -> torch.Tensor:
    return torch.cat([tensor.flatten().float() for tensor in fitted.head.state_dict().values()])


def test_a_fit_says_what_it_learned(material: Material) -> None:
    """Prototypes, batch, seen defects, curves; and how map and score are to be made."""
    fitted = _fit(material, ratio=0.5)
    assert fitted.sigma == 0
    assert fitted.top_pixels == 6  # 100 / 65,536 of 64 x 64
    assert fitted.facts["seen defects"] == "2"
    assert fitted.facts["prototypes"].startswith("3 at each scale")
    assert fitted.facts["batch"] == "2 normal, 1 extended, 1 simulated; rate 0.001"
    assert {curve.name for curve in fitted.curves} >= {"loss, smooth L1", "loss, focal"}
    assert not fitted.head.training
    assert next(fitted.head.parameters()).device.type == "cpu"


def test_a_fit_is_repeatable(material: Material) -> None:
    """The same seed gives the same weights, another seed others."""
    first, again, other = (_weights(_fit(material, seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_resumed_fit_goes_on_as_if_never_interrupted(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after two of three steps and resumed, it gives the weights of an unbroken one."""
    kept = replace(material, folder=tmp_path, request="one")
    backbone = load_backbone("filterbank")

    def interrupt(what: str, done: int, total: int) -> None:
        if what.startswith("training") and done == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("calibration.training.CHECKPOINT_EVERY_S", 0.0)
    monkeypatch.setattr("calibration.training.WRITING_SHARE", 1e9)
    with pytest.raises(KeyboardInterrupt):
        PRNScorer(**QUICK).fit(kept, backbone, 0, interrupt)
    resumed = PRNScorer(**QUICK).fit(replace(kept, is_resumed=True), backbone, 0, lambda *_: None)
    assert "resumed" in resumed.facts
    torch.testing.assert_close(_weights(resumed), _weights(_fit(material)))


@pytest.mark.parametrize(
    ("modules", "missing"),
    [
        ("fusion,attention", {Prototypes}),
        ("prototypes,attention", {Fusion}),
        ("prototypes,fusion", {MultiSizeAttention}),
        ("none", {Prototypes, Fusion, MultiSizeAttention}),
    ],
)
def test_modules_can_be_left_out(material: Material, modules: str, missing: set[type]) -> None:
    """The rows of table 4."""
    fitted = _fit(material, modules=modules)
    kinds = {Prototypes, Fusion, MultiSizeAttention}
    assert kinds - {type(module) for module in fitted.head.modules()} == missing


def test_without_seen_defects_it_learns_from_simulated_ones(material: Material) -> None:
    """And without a hold-out set nothing is judged."""
    fitted = _fit(replace(material, seen=(), holdout=()))
    assert fitted.facts["seen defects"] == "0"
    assert not any("hold-out" in curve.name for curve in fitted.curves)
    with pytest.raises(ConfigError, match="there is none with a mask; give --holdout"):
        _fit(replace(material, seen=()), kinds="extended")


def test_the_backbone_stays_as_it_is(material: Material) -> None:
    """It is frozen (section 4.1)."""
    backbone = load_backbone("filterbank")
    before = {name: tensor.clone() for name, tensor in backbone.network.state_dict().items()}
    PRNScorer(**QUICK).fit(material, backbone, 0, lambda *_: None)
    after = backbone.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not backbone.network.training


def test_a_revision_learns_from_half_of_the_masked_defects(tiny_data: Path, tmp_path: Path) -> None:
    """Trained, exported and stored; what was learned from is left out of the hold-out set."""
    request = Request(
        product="tiny",
        images=tiny_data,
        holdout=tiny_data / "holdout",
        resize=SIZE,
        crop=SIZE,
        seed=0,
        runtime="onnxruntime",
        threads=1,
        device="cpu",
    )
    found = find_holdout(tiny_data / "holdout")
    masked = sum(one.is_defect and one.mask is not None for one in found)
    scorer = scorer_named("prn", **QUICK)
    bundle = calibrate(
        request, scorer, load_backbone("filterbank"), ProductStore(tmp_path), lambda *_: None
    )
    assert bundle.manifest.recipe.options == scorer.options()
    defects = sum(one.is_defect for one in found)
    assert bundle.manifest.dataset.n_holdout_defect == defects - masked // 2


def test_options_make_the_same_scorer_again() -> None:
    """What the manifest keeps is enough to fit anew."""
    scorer = PRNScorer(ratio=0.2, residual="squared", modules="fusion", kinds="homologous")
    assert scorer_named(scorer.name, **scorer.options()) == scorer


def test_the_papers_schedule_is_the_gpus() -> None:
    """A CPU has one of its own; what is asked for goes before both."""
    assert PRNScorer().schedule("cuda") == Schedule(64, 1e-4, 700)
    assert PRNScorer(batch=16, learning_rate=3e-4).schedule("cpu") == Schedule(16, 3e-4, 30)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"ratio": 0.0}, "ratio is a share"),
        ({"residual": "cosine"}, "'absolute' or 'squared', not 'cosine'"),
        ({"unchanged": 1.5}, "unchanged is a share"),
        ({"batch": 2}, "batch is at least 4"),
        ({"learning_rate": -1.0}, "learning_rate is not below 0"),
        ({"max_prototypes": 0}, "max_prototypes is 1 or more"),
        ({"modules": "fusion,magic"}, "prototypes, fusion, attention, with commas, or none; not"),
        ({"kinds": "extended,strange"}, "heterologous, homologous, with commas, not 'extended,st"),
        ({"kinds": ""}, "kinds is a list"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any], match: str) -> None:
    """At once, and with what can be."""
    with pytest.raises(ConfigError, match=match):
        PRNScorer(**options)


def test_kinds_are_read_in_any_order() -> None:
    """Spaces don't matter."""
    assert kinds_named("homologous, extended") == kinds_named("extended,homologous")
    assert np.unique(kinds_named("homologous,homologous")).size == 1


def test_textures_may_come_from_a_folder(material: Material, tmp_path: Path) -> None:
    """Other textures teach other things; an empty folder is refused before anything is learned."""
    done: list[str] = []
    scorer = PRNScorer(**QUICK, textures=str(tmp_path))
    with pytest.raises(DatasetError, match="no picture in it or below"):
        scorer.fit(material, load_backbone("builtin"), 0, lambda what, *_: done.append(what))
    assert done == []
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "noise.png"), noise)
    own, drawn = (
        _weights(_fit(material, textures=folder, kinds="heterologous", modules="none"))
        for folder in (str(tmp_path), "")
    )
    assert not torch.equal(own, drawn)


def test_what_lies_outside_of_the_region_is_not_learned(material: Material) -> None:
    """Whatever is marked there, the same network comes of it; and the loss is of the rest only."""
    region = np.zeros(SIZE, np.uint8)
    region[:, :40] = 255

    def fit(outside: int, inspected: MaskArray | None) -> torch.Tensor:
        seen = []
        for one in material.seen:
            mask = np.full(SIZE, outside, np.uint8)
            mask[:, :40] = 0
            mask[5:20, 5:20] = 255
            seen.append(replace(one, mask=mask, region=inspected))
        regions = None if inspected is None else [inspected] * len(material.good)
        shown = replace(material, seen=seen, regions=regions, holdout=())
        return _weights(_fit(shown, unchanged=1.0, kinds="extended", modules="none"))

    clean = fit(0, region)
    assert torch.equal(clean, fit(255, region))
    assert not torch.equal(clean, fit(0, None))

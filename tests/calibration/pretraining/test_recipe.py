"""The course from random weights to a backbone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from calibration.pretraining.recipe import Recipe, pretrain, rate_at
from calibration.pretraining.scenes import Batch
from calibration.scorers import Material

TINY = Recipe(materials=4, batch=Batch(1, 1, 1, 64), steps=4)


def _material(folder: Path | None = None, is_resumed: bool = False) -> Material:
    return Material((), folder=folder, request=str(TINY), is_resumed=is_resumed)


class StoppedError(Exception):
    """What interrupts a training in the middle."""


def test_the_rate_rises_and_falls() -> None:
    """From little to all after the warm-up, and to nothing at the end and beyond."""
    assert 0 < rate_at(0) < 0.1
    assert rate_at(0.04) == pytest.approx(1, abs=0.01)
    assert rate_at(0.5) > rate_at(0.9) > rate_at(1.0) == rate_at(1.2) == 0


@pytest.fixture(autouse=True)
def _few_settling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics of a few batches will do."""
    monkeypatch.setattr("calibration.pretraining.recipe.SETTLING", 2)


def test_a_resumed_training_gives_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted after two steps and resumed, it ends where it ends without a pause."""
    whole, outcome = pretrain(TINY, _material(), lambda *_: None)
    assert outcome.steps == 4

    def stop(stage: str, done: int, total: int) -> None:
        if stage.startswith("training") and done == 3:
            raise StoppedError

    monkeypatch.setattr("calibration.training.CHECKPOINT_EVERY_S", 0.0)
    monkeypatch.setattr("calibration.training.WRITING_SHARE", 1e9)
    with pytest.raises(StoppedError):
        pretrain(TINY, _material(tmp_path), stop)
    resumed, outcome = pretrain(TINY, _material(tmp_path, is_resumed=True), lambda *_: None)
    assert outcome.resumed_at == 2
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor, msg=name)

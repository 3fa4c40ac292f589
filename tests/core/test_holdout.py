"""The stored hold-out scores: read as written, of older revisions too, and never guessed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from inspectd.core.bundle import HOLDOUT, Bundle, open_bundle, sha256_of, write_manifest
from inspectd.core.errors import BundleError
from inspectd.core.holdout import HoldoutPicture, HoldoutScores, read_holdout, write_holdout

SCORES = HoldoutScores(
    pictures=(
        HoldoutPicture(name="good/0.png", label="good", score=0.25, peak=0.5),
        HoldoutPicture(name="dent/0.png", label="dent", score=0.75, origin="simulated"),
    ),
    pixel_f1=0.4,
)


@pytest.fixture
def bundle(tmp_path: Path, make_bundle: Callable[[Path], Bundle]) -> Bundle:
    """A bundle made by hand; its threshold is 0.5 and it has no pixel threshold."""
    return make_bundle(tmp_path / "r0001-0123abcd")


def _rewritten(bundle: Bundle, content: str | None) -> Bundle:
    """The bundle with another ``holdout.json``, or without, properly sealed."""
    files = dict(bundle.manifest.files)
    if content is None:
        (bundle.path / HOLDOUT).unlink()
        del files[HOLDOUT]
    else:
        (bundle.path / HOLDOUT).write_text(content)
        files[HOLDOUT] = sha256_of(bundle.path / HOLDOUT)
    write_manifest(bundle.path, bundle.manifest.model_copy(update={"files": files}))
    return open_bundle(bundle.path)


def test_what_was_written_comes_back(bundle: Bundle, tmp_path: Path) -> None:
    """Scores, labels and peaks are those that were put in, to the last bit."""
    write_holdout(tmp_path, SCORES)
    found = read_holdout(_rewritten(bundle, (tmp_path / HOLDOUT).read_text()))
    assert found == SCORES
    np.testing.assert_array_equal(found.scores, [0.25, 0.75])
    np.testing.assert_array_equal(found.is_defect, [False, True])
    assert found.labels == ("good", "dent")
    assert found.names == ("good/0.png", "dent/0.png")
    assert found.basis == "simulated"
    assert found.good_peaks is not None
    np.testing.assert_array_equal(found.good_peaks, [0.5])


def test_the_list_of_version_1_is_read(bundle: Bundle) -> None:
    """Name, label and score were there already; basis and pixel threshold are the manifest's."""
    rows = [{"name": p.name, "label": p.label, "score": p.score} for p in SCORES.pictures]
    found = read_holdout(_rewritten(bundle, json.dumps(rows)))
    np.testing.assert_array_equal(found.scores, SCORES.scores)
    assert found.labels == SCORES.labels
    assert found.basis == "real"
    assert found.pixel_f1 is None
    assert found.good_peaks is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "has no holdout.json"),
        ("[]", "holds no score"),
        ("{", "can't be read"),
        ("[1]", "not valid at pictures.0"),
        ('{"version": 2, "pictures": [], "pixel_f1": null}', "not valid at version"),
        ('[{"name": "a", "label": "good", "score": NaN}]', "not valid at pictures.0.score"),
    ],
)
def test_missing_scores_are_an_error_with_the_remedy(
    bundle: Bundle, content: str | None, words: str
) -> None:
    """Without usable scores there is no other threshold; calibrating anew stores them."""
    with pytest.raises(BundleError, match=rf"{words}.*; calibrate the product anew"):
        read_holdout(_rewritten(bundle, content))


def test_a_score_is_a_number() -> None:
    """NaN and infinity are no scores."""
    for score in (float("nan"), float("inf")):
        with pytest.raises(ValidationError):
            HoldoutPicture(name="a", label="good", score=score)

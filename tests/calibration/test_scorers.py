"""Every scorer keeps the contract: what it learns is exported, portable, and scores as in torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

import calibration.scorers
from calibration.backbones import load_backbone
from calibration.calibrate import Request, calibrate
from calibration.graph import OPSET
from calibration.lint import lint
from calibration.scorers import Option, scorer_named
from inspectd.core.bundle import MODEL, Bundle
from inspectd.core.errors import ConfigError
from inspectd.core.store import ProductStore
from inspectd.pipeline.inspector import Inspector
from inspectd.runtimes import installed, open_runtime

FILES = sorted(
    path.stem
    for path in Path(calibration.scorers.__file__).parent.glob("*.py")
    if path.stem != "__init__"
)
QUICK: Mapping[str, Mapping[str, Option]] = {
    "protoad": {"max_prototypes": 200},
    "mpfnet": {"epochs": 1, "batch": 64},
    "prn": {"epochs": 1, "batch": 4},
}
"""Options that make a fit short; a scorer without any is fitted as it is."""


@dataclass(frozen=True, slots=True)
class Made:
    """A product that one scorer learned."""

    name: str
    bundle: Bundle
    steps: tuple[tuple[str, int, int], ...]


@pytest.fixture(scope="module", params=FILES)
def made(
    request: pytest.FixtureRequest, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Made:
    """Calibrated on the rendered product, with the built-in backbone."""
    name: str = request.param
    steps: list[tuple[str, int, int]] = []
    wish = Request(
        product="tiny",
        images=tiny_data,
        holdout=tiny_data / "holdout",
        resize=(96, 96),
        crop=(96, 96),
        seed=0,
        runtime="onnxruntime",
        threads=1,
        device="cpu",
    )
    bundle = calibrate(
        wish,
        scorer_named(name, **QUICK.get(name, {})),
        load_backbone("filterbank"),
        ProductStore(tmp_path_factory.mktemp(name)),
        lambda *step: steps.append(step),
    )
    return Made(name, bundle, tuple(steps))


def test_the_graph_is_portable(made: Made) -> None:
    """Every runtime can read it; the calibration itself has compared it with torch."""
    model = onnx.load(made.bundle.path / MODEL)
    assert lint(model) == []
    assert model.opset_import[0].version == OPSET
    assert {node.op_type for node in model.graph.node} & {"BatchNormalization", "If"} == set()


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_golden_pictures_reproduce(made: Made, runtime: str) -> None:
    """On every installed runtime they give their scores and verdicts."""
    if runtime not in installed():
        pytest.skip(f"{runtime} is not installed")
    with open_runtime(made.bundle.graph, runtime, threads=1) as opened:
        assert Inspector(made.bundle, opened).verify() < 1e-4


def test_a_batch_equals_its_pictures(made: Made) -> None:
    """What a picture scores doesn't depend on its neighbours in a batch."""
    import onnxruntime

    pictures = np.stack([image for _, image in made.bundle.golden_images()][:3])
    session = onnxruntime.InferenceSession(
        made.bundle.path / MODEL, providers=["CPUExecutionProvider"]
    )
    maps, scores = session.run(None, {"image": pictures})
    for index, picture in enumerate(pictures):
        values, score = session.run(None, {"image": picture[None]})
        np.testing.assert_allclose(values[0], maps[index], atol=1e-4)
        np.testing.assert_allclose(score[0], scores[index], atol=1e-4)


def test_the_manifest_reproduces_the_scorer(made: Made) -> None:
    """Name and options are enough to fit anew."""
    recipe = made.bundle.manifest.recipe
    assert recipe.scorer == made.name
    again = scorer_named(recipe.scorer, **recipe.options)
    assert again == scorer_named(made.name, **QUICK.get(made.name, {}))


def test_progress_reaches_its_end(made: Made) -> None:
    """Each stage reports until all of it is done, and never more than there is."""
    last = {what: (done, total) for what, done, total in made.steps}
    assert all(done == total for done, total in last.values())
    assert all(done <= total for _, done, total in made.steps)


def test_an_option_of_another_scorer_is_refused() -> None:
    """It would be ignored; the refusal lists those that there are."""
    with pytest.raises(ConfigError, match=r"mpfnet has no coverage; it has .*ratio"):
        scorer_named("mpfnet", coverage=3)


def test_a_trained_scorer_says_how_it_went(made: Made) -> None:
    """Curves in the report and, where looks were compared, a remark on the choice; else neither."""
    page = (made.bundle.path / "report.html").read_text()
    is_trained = "training (steps)" in {what for what, _, _ in made.steps}
    assert is_trained == ('id="training"' in page)
    remarks = " ".join(made.bundle.manifest.remarks)
    is_chosen = is_trained and "the best of 1:" not in page
    assert is_chosen == ("flatter a little" in remarks)

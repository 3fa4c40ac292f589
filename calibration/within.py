"""Fits a scorer's forms one after the other until one keeps to the latency budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from calibration.backbones import Backbone
from calibration.budget import Budget, Chosen, Trial, choose_within, latency_ms
from calibration.golden import GOLDEN_TOLERANCE
from calibration.graph import ScoringGraph, export_onnx
from calibration.holdout import Holdout, holdout_scores, score_holdout
from calibration.policies import choose
from calibration.scorers import Fitted, Labelled, Material, Report, Scorer
from calibration.variants import Variants, make_variants
from inspectd.core.bundle import MODEL, Graph, PolicyPart
from inspectd.core.scope import Scope
from inspectd.runtimes import open_runtime


@dataclass(frozen=True, slots=True)
class Setting:
    """What every form is fitted to and measured with."""

    material: Material
    pictures: Sequence[Labelled]
    """The hold-out set that F1 is measured on."""
    basis: str
    """`real` or `simulated`: the hold-out set's defects."""
    scope: Scope
    """What of the pictures counts."""
    backbone: Backbone
    seed: int
    policy: PolicyPart
    runtime: str
    """That fp32 is scored in; `auto` takes the best one."""
    threads: int
    """Of the runtime; 0 takes all cores."""
    precisions: Sequence[str]
    """That the model will be written in; int8 is tried where it is among them."""

    def scope_of(self, fitted: Fitted) -> Scope:
        """What counts, by what was fitted."""
        return replace(self.scope, top_pixels=fitted.top_pixels)


def fit_within(budget: Budget, scorer: Scorer, setting: Setting, report: Report) -> Chosen:
    """The most exact form of a scorer that keeps to the budget; one without others as it is.

    Raises:
        ConfigError: none does; the message lists what was measured.
    """

    def fit(candidate: Scorer) -> Fitted:
        said = _prefixed(str(candidate), report)
        return candidate.fit(setting.material, setting.backbone, setting.seed, said)

    def measure(candidate: Scorer, fitted: Fitted) -> Iterator[Trial]:
        with TemporaryDirectory() as folder:
            said = _prefixed(str(candidate), report)
            yield from _trials(str(candidate), fitted, setting, Path(folder), said)

    return choose_within(budget, scorer, fit, measure)


def _trials(
    what: str, fitted: Fitted, setting: Setting, folder: Path, report: Report
) -> Iterator[Trial]:
    """In fp32 and, where the parity gate lets it, in int8; the second is made when asked for."""
    good, scope = setting.material.good[0], setting.scope_of(fitted)
    size = (good.shape[0], good.shape[1])
    graph = Graph(folder / MODEL, size)
    export_onnx(
        ScoringGraph(setting.backbone, fitted.head, size, fitted.sigma, fitted.top_pixels),
        graph.path,
    )
    image = setting.pictures[0].image
    with open_runtime(graph, setting.runtime, setting.threads) as runtime:
        holdout = score_holdout(setting.pictures, setting.basis, scope, runtime, report)
        threshold = choose(setting.policy, holdout_scores(holdout, fitted.highest)).threshold
        name = runtime.name.partition("-")[0]
        yield Trial(what, name, latency_ms(runtime, image, scope), threshold.f1)
    made = _int8(graph, holdout, threshold.image, setting, report)
    if "int8" not in made.parts:
        return
    name = made.parts["int8"].runtime.partition("-")[0] + "-int8"
    slim = replace(graph, precisions={"int8": graph.path.with_name("model.int8.onnx")})
    with open_runtime(slim, name, setting.threads) as runtime:
        yield Trial(what, name, latency_ms(runtime, image, scope), made.f1["int8"])


def _int8(
    graph: Graph, holdout: Holdout, threshold: float, setting: Setting, report: Report
) -> Variants:
    """Writes the int8 model, where it is wanted and passes the gate."""
    return make_variants(
        graph,
        [one for one in setting.precisions if one == "int8"],
        setting.material.good,
        holdout,
        setting.pictures,
        threshold,
        GOLDEN_TOLERANCE,
        setting.threads,
        report,
    )


def _prefixed(what: str, report: Report) -> Report:
    return lambda stage, done, total: report(f"{what}: {stage}", done, total)

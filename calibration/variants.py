"""The model in fewer bits, made for a product and held to the parity gate before it is kept.

int8 starts with everything quantised. Where that moves a score of the hold-out set too far, the
first stages go back to fp32, whose rounding every later one sees; where that doesn't help either,
the revision has no int8 model, and the report says how far off it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import onnx

from calibration.evaluate import Scored
from calibration.holdout import Holdout
from calibration.metrics import confusion
from calibration.precision import STAGES, write_fp16, write_int8
from calibration.scorers import Labelled, Report
from inspectd.core.bundle import Graph, PrecisionPart
from inspectd.core.precisions import ROUNDING
from inspectd.core.records import ImageArray
from inspectd.pipeline.parity import Bounds, Pair, Parity, judge
from inspectd.pipeline.score import examine
from inspectd.runtimes import installed, open_runtime

Precision = Literal["fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp16", "int8")
FP16_ROUNDING = 2e-3
RANGES = 16
"""Good pictures that int8's ranges are taken from; four times as many changed nothing."""
COMPARED_IN_FP16 = 20
"""Hold-out pictures: a CPU only emulates fp16, so that it rounds as a GPU does but is slow."""
KEPT = ((), STAGES[:2], STAGES[:3])
"""What int8 leaves in fp32, one step after the other."""


@dataclass(frozen=True, slots=True)
class Variants:
    """What was made, and what became of the rest."""

    parts: dict[Precision, PrecisionPart] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    """For the report."""
    proven: tuple[tuple[str, Parity], ...] = ()
    """Runtimes on this machine that passed the gate, by name."""
    f1: dict[Precision, float] = field(default_factory=dict)
    """On the pictures that were compared, at fp32's threshold."""


@dataclass(frozen=True, slots=True)
class _Try:
    """One file, compared."""

    runtime: str
    parity: Parity
    f1: float
    remark: str


def make_variants(
    graph: Graph,
    wanted: Sequence[str],
    train: Sequence[ImageArray],
    holdout: Holdout,
    pictures: Sequence[Labelled],
    threshold: float,
    tolerance: float,
    threads: int,
    report: Report,
) -> Variants:
    """Writes ``model.fp16.onnx`` and ``model.int8.onnx`` beside the graph, those that pass.

    Args:
        graph: fp32; files are written into its folder.
        wanted: of `PRECISIONS`.
        train: prepared good pictures, (H, W, 3) uint8 RGB.
        holdout: scored in fp32.
        pictures: those that were scored.
        threshold: that verdicts are compared at.
        tolerance: of golden scores.
        threads: of the runtime; 0 takes all cores.
        report: hears of the progress.
    """
    made = Variants()
    for index, precision in enumerate(name for name in PRECISIONS if name in wanted):
        report("making the model in fewer bits", index, len(wanted))
        path = graph.path.with_name(f"model.{precision}.onnx")
        tries = _fp16(graph, path) if precision == "fp16" else _int8(graph, path, train)
        for remark in tries:
            one = _compared(
                graph, path, precision, holdout, pictures, threshold, tolerance, threads, remark
            )
            if one.parity.passed:
                made = _with(made, precision, path, one)
                break
        else:
            path.unlink()
            made.facts[f"{precision} model"] = f"none: {'; '.join(one.parity.problems)}"
    report("making the model in fewer bits", len(wanted), len(wanted))
    return made


def _fp16(graph: Graph, path: Path) -> Iterator[str]:
    write_fp16(graph.path, path)
    yield ""


def _int8(graph: Graph, path: Path, train: Sequence[ImageArray]) -> Iterator[str]:
    """Writes one model after the other; each with what is still in fp32."""
    count = min(RANGES, len(train))
    images = [train[index] for index in np.linspace(0, len(train) - 1, count, dtype=int)]
    names = [node.name for node in onnx.load(graph.path).graph.node]
    for keep in KEPT:
        if keep and not any(name.startswith(keep) for name in names):
            return  # nothing else to try: no ResNet
        write_int8(graph.path, path, images, keep)
        kept = ", ".join(part.strip("/").removeprefix("network/") for part in keep)
        yield f"{kept} in fp32" if kept else ""


def _compared(
    graph: Graph,
    path: Path,
    precision: Precision,
    holdout: Holdout,
    pictures: Sequence[Labelled],
    threshold: float,
    tolerance: float,
    threads: int,
    remark: str,
) -> _Try:
    """Scores hold-out pictures once more, with this model."""
    places: Sequence[int] = range(len(holdout.scored))
    if precision == "fp16":
        count = min(COMPARED_IN_FP16, len(places))
        places = [int(at) for at in np.linspace(0, len(places) - 1, count, dtype=int)]
        rounding, choice, target = FP16_ROUNDING, "onnxruntime", Graph(path, graph.size)
    else:
        rounding = ROUNDING[precision]
        choice = next(name for name in installed() if name != "tensorrt") + "-int8"
        target = Graph(graph.path, graph.size, precisions={precision: path})
    with open_runtime(target, choice, threads) as runtime:
        pairs = [
            _pair(holdout.scored[at], examine(runtime, pictures[at].image, holdout.scope).score)
            for at in places
        ]
        name = (
            runtime.name
            if precision == "int8"
            else runtime.name.replace("fp32 CPU", "emulating fp16")
        )
    scores = np.array([pair.score for pair in pairs])
    f1 = confusion(scores, np.array([pair.is_defect for pair in pairs]), threshold).f1
    return _Try(name, judge(pairs, threshold, Bounds.of(tolerance, rounding)), f1, remark)


def _pair(one: Scored, score: float) -> Pair:
    return Pair(one.name, one.is_defect, one.score, score)


def _with(made: Variants, precision: Precision, path: Path, one: _Try) -> Variants:
    parity = one.parity
    part = PrecisionPart(
        file=path.name,
        runtime=one.runtime,
        n_compared=parity.n_holdout,
        difference=parity.difference,
        auroc_drop=None if parity.auroc is None else parity.auroc[0] - parity.auroc[1],
        near=tuple(pair.name for pair in parity.near),
        remark=one.remark,
    )
    text = (
        f"scores at most {parity.difference:.1e} from fp32's on {parity.n_holdout} hold-out "
        f"pictures, {len(parity.near)} verdict(s) changed within {parity.bounds.margin:g} of the "
        "threshold"
    )
    facts = {f"{precision} model": ", ".join(filter(None, (text, one.remark)))}
    proven = ((one.runtime, parity),) if precision == "int8" else ()
    return Variants(
        {**made.parts, precision: part},
        {**made.facts, **facts},
        (*made.proven, *proven),
        {**made.f1, precision: one.f1},
    )

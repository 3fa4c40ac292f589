"""Our side of ``against_patchcore.py``: fits ProtoAD and scores pictures, a JSON line at a time.

Speaks the driver's protocol (``fit``, ``score``, ``quit``). A score's time runs from the decoded
RGB picture to score and map at the model's input resolution: preprocessing and inference.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from calibration.backbones import load_backbone
from calibration.dataset import PreparedImages
from calibration.graph import ScoringGraph, export_onnx
from calibration.precision import write_int8
from calibration.scorers import Material, scorer_named
from calibration.variants import RANGES
from inspectd.core.bundle import Graph
from inspectd.core.contracts import Runtime
from inspectd.core.images import read_image
from inspectd.core.preprocess import Preprocessing, prepare
from inspectd.runtimes import open_runtime

PREPROCESSING = Preprocessing(resize=(256, 256), crop=(224, 224))


def main() -> None:
    """Answers commands until ``quit`` or the end of input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--head", default=os.environ.get("OWN_HEAD", "projected"))
    parser.add_argument("--coverage", type=int, default=-1)
    parser.add_argument("--runtime", default=os.environ.get("OWN_RUNTIME", "openvino-int8"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        runtime: Runtime | None = None
        for line in sys.stdin:
            command = json.loads(line)
            if command["cmd"] == "quit":
                return
            if command["cmd"] == "fit":
                runtime, answer = fit(command["images"], arguments, folder, stack)
            else:
                answer = score(Path(command["image"]), runtime)
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


def fit(
    images: list[str], arguments: argparse.Namespace, folder: Path, stack: ExitStack
) -> tuple[Runtime, dict[str, Any]]:
    """Learns prototypes, exports the graph and opens the runtime."""
    started = perf_counter()
    scorer = scorer_named("protoad", head=arguments.head, coverage=arguments.coverage)
    train = PreparedImages([Path(image) for image in images], PREPROCESSING)
    backbone = load_backbone(arguments.weights)
    fitted = scorer.fit(Material(train), backbone, 0, lambda *_: None)
    path = folder / f"model-{len(list(folder.iterdir()))}.onnx"
    size = PREPROCESSING.crop
    export_onnx(ScoringGraph(backbone, fitted.head, size, fitted.sigma, fitted.top_pixels), path)
    graph = Graph(path, PREPROCESSING.crop)
    if arguments.runtime.endswith("int8"):
        slim = path.with_suffix(".int8.onnx")
        ranges = [train[at] for at in np.linspace(0, len(train) - 1, RANGES, dtype=int)]
        write_int8(path, slim, ranges)
        graph = replace(graph, precisions={"int8": slim})
    runtime = stack.enter_context(open_runtime(graph, arguments.runtime, arguments.threads))
    about = f"{fitted.facts['prototypes']} prototypes, {arguments.head}, {runtime.name}"
    return runtime, {"ok": True, "seconds": perf_counter() - started, "about": about}


def score(path: Path, runtime: Runtime | None) -> dict[str, Any]:
    """Scores one picture."""
    if runtime is None:
        return {"ok": False, "error": "score before fit"}
    image = read_image(path)
    started = perf_counter()
    anomaly = runtime.infer(prepare(image, PREPROCESSING))
    return {"ok": True, "score": anomaly.score, "ms": (perf_counter() - started) * 1e3}


if __name__ == "__main__":
    main()

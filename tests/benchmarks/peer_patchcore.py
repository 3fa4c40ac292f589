"""anomalib 2.7.0's PatchCore behind a line protocol: the peer of ``against_patchcore.py``.

This file runs in the peer's own virtual environment (anomalib, torch, torchvision, timm and
safetensors), never in the project's; it imports nothing of the project. ``against_patchcore.py``
starts it. One JSON object a line on standard input, one reply a line on standard output; what
libraries print goes to standard error.

    {"cmd": "fit", "images": [PATH, ...]}  ->  {"ok": true, "seconds": S, "bank": N, "about": {..}}
    {"cmd": "score", "image": PATH}        ->  {"score": X, "ms": T, "map": [H, W]}
    {"cmd": "quit"}                        ->  no reply, the worker ends
    what fails                             ->  {"ok": false, "error": "..."}, the worker goes on

``seconds`` runs from the first file opened to the finished memory bank. ``ms`` runs from the
decoded RGB uint8 array to the score and the map as plain numbers: conversion to float, resize,
crop, normalisation, backbone, search, anomaly map with its blur. Decoding the file is outside.

The method is anomalib's, unchanged: its pre-processor for 256x256 with a 224 centre crop, its
model with resnet18, layer2 and layer3, 9 neighbours, its k-centre-greedy coreset of one tenth. Only
the backbone's weights are set by hand, from a file with torchvision's key names, and the distances
to a new centre come from one product of matrix and vector: the same choice but for rounding, in a
fraction of the hour that it takes otherwise (fitting is not what is compared).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

WANTED_VERSION = "2.7.0"
LAYERS = ("layer2", "layer3")
RESIZE = (256, 256)
CROP = (224, 224)
NEIGHBOURS = 9
CORESET_RATIO = 0.1
BATCH = 8


def update_distances(sampler: Any, cluster_center: Any) -> None:
    """In the place of anomalib's `KCenterGreedy.update_distances`; squared distances."""
    if cluster_center is None:
        return
    features = sampler.features
    if sampler.min_distances is None:
        sampler.squares = features.square().sum(dim=1)
    at = cluster_center.squeeze()
    products = features @ features[at]
    distances = (sampler.squares + sampler.squares[at] - 2 * products).clamp_(min=0)[:, None]
    known = sampler.min_distances
    sampler.min_distances = distances if known is None else known.minimum(distances)


class Peer:
    """The model, its pre-processing and its memory bank."""

    def __init__(self, weights: Path, threads: int, seed: int) -> None:
        import anomalib
        import numpy as np
        import torch
        import torchvision
        from anomalib.models.components.sampling.k_center_greedy import KCenterGreedy
        from anomalib.models.image.patchcore.lightning_model import Patchcore
        from torchvision.transforms.v2.functional import to_dtype, to_image

        if anomalib.__version__ != WANTED_VERSION:
            raise RuntimeError(f"anomalib {WANTED_VERSION} wanted, found {anomalib.__version__}")
        torch.set_num_threads(threads)
        KCenterGreedy.update_distances = update_distances
        self._np, self._torch = np, torch
        self._to_image, self._to_dtype = to_image, to_dtype
        self._weights = weights
        self._seed = seed
        # What anomalib itself applies in training and testing (resize with antialiasing).
        self._transform = Patchcore.configure_pre_processor(RESIZE, CROP).transform
        self._model: Any = None
        self.about = {
            "what": f"anomalib {anomalib.__version__} PatchCore, resnet18 {'+'.join(LAYERS)}",
            "anomalib": anomalib.__version__,
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "threads": torch.get_num_threads(),
            "resize": list(RESIZE),
            "crop": list(CROP),
            "coreset_ratio": CORESET_RATIO,
            "num_neighbors": NEIGHBOURS,
            "seed": seed,
        }
        self._new_model()  # a bad weights file should fail at once, not at the first fit

    def _new_model(self) -> Any:
        from anomalib.models.image.patchcore.torch_model import PatchcoreModel
        from safetensors.torch import load_file

        model = PatchcoreModel(
            layers=list(LAYERS),
            backbone="resnet18",
            pre_trained=False,
            num_neighbors=NEIGHBOURS,
        )
        network = model.feature_extractor.feature_extractor
        tensors = load_file(str(self._weights))
        # The count of batches seen is of no use outside training; all else must be set.
        wanted = {
            key: value.shape
            for key, value in network.state_dict().items()
            if not key.endswith(".num_batches_tracked")
        }
        found = {key: value.shape for key, value in tensors.items()}
        wrong = sorted(k for k in wanted | found if wanted.get(k) != found.get(k))
        if wrong:
            raise RuntimeError(
                f"{self._weights} does not fit anomalib's resnet18, conv1 to layer3: "
                f"{len(wrong)} tensors missing, unexpected or of another shape, such as {wrong[0]}"
            )
        network.load_state_dict(tensors, strict=False)
        state = network.state_dict()
        unset = [k for k, v in tensors.items() if not self._torch.equal(state[k], v)]
        if unset:
            raise RuntimeError(f"not set from {self._weights}: {unset}")
        return model

    def _decode(self, path: str) -> Any:
        from PIL import Image

        with Image.open(path) as image:
            return self._np.array(image.convert("RGB"), dtype=self._np.uint8)

    def _prepare(self, rgb: Any) -> Any:
        tensor = self._to_dtype(self._to_image(rgb), self._torch.float32, scale=True)
        return self._transform(tensor)

    def fit(self, paths: list[str]) -> dict[str, Any]:
        if not paths:
            raise ValueError("no images to fit")
        torch = self._torch
        started = time.perf_counter()
        # The projection's columns come from numpy's generator, all else from torch's.
        torch.manual_seed(self._seed)
        self._np.random.seed(self._seed)
        model = self._new_model()
        model.train()
        with torch.no_grad():
            for at in range(0, len(paths), BATCH):
                batch = [self._prepare(self._decode(p)) for p in paths[at : at + BATCH]]
                model(torch.stack(batch))
            features_at = time.perf_counter()
            model.subsample_embedding(CORESET_RATIO)
        model.eval()
        self._model = model
        ended = time.perf_counter()
        return {
            "ok": True,
            "seconds": ended - started,
            "coreset_seconds": ended - features_at,
            "bank": int(model.memory_bank.shape[0]),
            "about": self.about,
        }

    def score(self, path: str) -> dict[str, Any]:
        if self._model is None:
            raise RuntimeError("score before fit")
        rgb = self._decode(path)
        with self._torch.inference_mode():
            started = time.perf_counter()
            tensor = self._prepare(rgb).unsqueeze(0)
            prepared = time.perf_counter()
            out = self._model(tensor)
            score = float(out.pred_score[0])
            heat = out.anomaly_map[0, 0].numpy()
            ended = time.perf_counter()
        return {
            "score": score,
            "ms": (ended - started) * 1e3,
            "prepare_ms": (prepared - started) * 1e3,
            "map": list(heat.shape),
        }


def serve(peer: Peer, replies: Any) -> None:
    """Answer the lines of standard input until it ends or says quit."""
    for line in sys.stdin:
        if not line.strip():
            continue
        try:
            request = json.loads(line)
            command = request.get("cmd")
            if command == "quit":
                return
            if command == "fit":
                reply = peer.fit(request["images"])
            elif command == "score":
                reply = peer.score(request["image"])
            else:
                raise ValueError(f"unknown command: {command!r}")
        except Exception as error:  # noqa: BLE001 - the driver gets every failure as a reply
            traceback.print_exc()
            reply = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="anomalib's PatchCore behind a line protocol")
    parser.add_argument("--weights", type=Path, required=True, help="resnet18, safetensors")
    parser.add_argument("--threads", type=int, default=2, help="torch threads (default 2)")
    parser.add_argument("--seed", type=int, default=0, help="of the coreset (default 0)")
    args = parser.parse_args()
    # Replies keep the real standard output; whatever libraries print joins standard error.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore", FutureWarning)
    if not args.weights.is_file():
        print(f"peer_patchcore: no weights file at {args.weights}", file=sys.stderr)
        return 2
    try:
        peer = Peer(args.weights, args.threads, args.seed)
    except (ImportError, RuntimeError) as error:
        print(f"peer_patchcore: {error}", file=sys.stderr)
        return 2
    serve(peer, replies)
    return 0


if __name__ == "__main__":
    sys.exit(main())

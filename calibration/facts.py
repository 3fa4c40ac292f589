"""What stands in a report and a manifest of how a revision was made."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import inspectd
from calibration.backbones import Backbone
from calibration.scorers import Scorer
from inspectd.core.preprocess import Preprocessing


def recipe_facts(
    scorer: Scorer, backbone: Backbone, preprocessing: Preprocessing, n_train: int, seed: int
) -> dict[str, str]:
    """The recipe in words, by name."""
    resize, crop = (f"{size[0]} x {size[1]}" for size in (preprocessing.resize, preprocessing.crop))
    return {
        "scorer": scorer.name,
        "backbone": f"{backbone.name} ({backbone.sha256[:12]}…)",
        "pictures learned from": str(n_train),
        "input (H x W)": crop if crop == resize else f"{resize}, centre {crop}",
        "seed": str(seed),
        **tools(),
    }


def tools() -> dict[str, str]:
    """Versions, by package."""
    packages = ("torch", "onnx", "scipy", "numpy", "opencv-python-headless")
    return {
        "inspectd": inspectd.__version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in packages},
    }


def _version(package: str) -> str:
    """A package's version; `other build` where it came under another name (opencv-python, say)."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "other build"

"""Anomalies for training and for hold-out sets without defects, after PRN's section 3.4.

`AnomalyGenerator(good, seen, textures, seed).sample(index, kind)` gives a `SimulatedDefect`.

::

    records    kinds, mixes, styles, what goes in and comes out
    noise      Perlin noise
    areas      foreground and target areas
    augment    Aug1 (colours), Aug2 (space), the shuffle
    textures   from a folder or by procedure
    blend      equations 4 and 6, and what is visible of them
    generator  all of it together
    seen       seen defects from a folder
    sheet      a contact sheet to look at
"""

from __future__ import annotations

from calibration.anomalies.generator import AnomalyGenerator
from calibration.anomalies.records import (
    PAPER,
    TRAINING,
    UNSEEN,
    Kind,
    Mix,
    SeenDefect,
    SimulatedDefect,
    Style,
)
from calibration.anomalies.seen import prepare_seen, read_seen
from calibration.anomalies.textures import FolderTextures, ProceduralTextures, TextureSource

__all__ = [
    "PAPER",
    "TRAINING",
    "UNSEEN",
    "AnomalyGenerator",
    "FolderTextures",
    "Kind",
    "Mix",
    "ProceduralTextures",
    "SeenDefect",
    "SimulatedDefect",
    "Style",
    "TextureSource",
    "prepare_seen",
    "read_seen",
]

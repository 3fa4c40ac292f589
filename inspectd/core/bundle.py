"""The bundle: one revision of a product, the contract between calibration and the line.

A directory with ``manifest.json``, ``model.onnx``, ``golden/NN.png`` (model inputs with their
expected scores in the manifest), ``holdout.json``, ``samples.json``, ``report.html`` and, where
only a part of the picture is inspected, ``roi.png``. Nothing in it can run code.
It is immutable: the manifest holds the sha256 of every other file, ``manifest.sha256`` that of the
manifest, and `open_bundle` checks them all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from inspectd.core.errors import (
    BundleError,
    BundleIntegrityError,
    BundleSchemaError,
    RuntimeUnavailableError,
)
from inspectd.core.files import sha256_of as sha256_of  # part of what a bundle is
from inspectd.core.images import read_image
from inspectd.core.preprocess import Preprocessing
from inspectd.core.records import ImageArray, Threshold
from inspectd.core.scope import Scope, ScopePart, read_roi, scope_of

SCHEMA_VERSION: Literal[3] = 3
"""Of what is written. 2 added policy, parent and review band, 3 the model in other precisions,
scope and tiles; what a manifest leaves out is an earlier version's."""
READABLE = (1, 2, 3)
MANIFEST = "manifest.json"
SEAL = "manifest.sha256"
"""sha256 of the manifest, as ``sha256sum --check`` reads it."""
MODEL = "model.onnx"
REPORT = "report.html"
HOLDOUT = "holdout.json"
SAMPLES = "samples.json"
"""Pictures of hold-out parts as the report shows them."""
MAX_MANIFEST_BYTES = 4 * 2**20

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Interval = tuple[float, float]
REVISION = r"^r[0-9]{4,}-[0-9a-f]{8}$"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ThresholdPart(_Part):
    """`Threshold` as it is written down."""

    image: float
    pixel: float | None
    policy: str
    basis: Literal["real", "simulated"]
    f1: float
    precision: float
    recall: float
    escapes: int
    overkill: int
    n_good: int
    n_defect: int
    escape_rate_interval: Interval
    overkill_rate_interval: Interval
    review_below: float | None = None
    review_good: int = 0
    review_defect: int = 0

    @model_validator(mode="after")
    def _consistent(self) -> ThresholdPart:
        if self.review_below is not None and self.review_below <= self.image:
            raise ValueError("review_below must lie above the image threshold")
        return self

    def as_record(self) -> Threshold:
        """The record that the pipeline uses."""
        return Threshold(**self.model_dump())


class PolicyPart(_Part):
    """How the threshold was chosen, and what that promises."""

    name: str
    """The word of ``--policy``."""
    limits: dict[str, float] = {}
    """What was asked for: `max_escape_rate`, `max_overkill_rate`, `cost_ratio`, `prevalence`,
    `false_alarm_rate`; fractions, but for the ratio of prices."""
    review_band: bool = False
    """Whether there are two thresholds, one for passing and one for failing."""
    promise: str = ""
    """The same as a sentence."""


class RecipePart(_Part):
    """How the model was made; enough to make it again."""

    scorer: str
    backbone: str
    backbone_sha256: Sha256
    seed: int
    options: dict[str, str | int | float | bool] = {}


class DatasetPart(_Part):
    """What the model was made from."""

    sha256: Sha256
    n_train: int
    n_holdout_good: int
    n_holdout_defect: int
    source_sizes: tuple[tuple[int, int], ...]
    """(H, W) of the pictures, distinct, at most 16."""


class ModelPart(_Part):
    """Names of the graph's tensors."""

    input: str = "image"
    """uint8 (N, H, W, 3) RGB."""
    anomaly_map: str = "anomaly_map"
    """float32 (N, H, W)."""
    score: str = "score"
    """float32 (N,)."""


class PrecisionPart(_Part):
    """The model in fewer bits, and how near it came to the reference when it was made."""

    file: str = Field(pattern=r"^model\.(fp16|int8)\.onnx$")
    runtime: str
    """What it was compared on: the reference is ONNX Runtime's or the threshold's, in fp32."""
    n_compared: int
    """Hold-out pictures."""
    difference: float
    """The largest of a score."""
    auroc_drop: float | None
    """None where the hold-out set hasn't both kinds of parts."""
    near: tuple[str, ...]
    """Parts whose verdict differs, all of them within the stated margin of the threshold."""
    remark: str = ""
    """What is still in fp32, for people."""


class GoldenPart(_Part):
    """A model input whose score must come out again, on every machine and runtime."""

    file: str = Field(pattern=r"^golden/[0-9]{2}\.png$")
    label: str
    score: float


class Manifest(_Part):
    """What ``manifest.json`` says."""

    schema_version: Literal[1, 2, 3]
    product: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")
    revision: str = Field(pattern=REVISION)
    created_at: datetime
    recipe: RecipePart
    preprocessing: Preprocessing
    scope: ScopePart = ScopePart()
    model: ModelPart = ModelPart()
    precisions: dict[Literal["fp16", "int8"], PrecisionPart] = {}
    """Beside fp32; version 1 and 2 have none."""
    threshold: ThresholdPart
    policy: PolicyPart | None = None
    """None in version 1, where it was always F1."""
    parent: str | None = Field(default=None, pattern=REVISION)
    """The revision whose model this is, with another threshold; None where it was calibrated."""
    remarks: tuple[str, ...]
    """Sentences for people: what the threshold rests on, and how far it can be trusted."""
    metrics: dict[str, float]
    dataset: DatasetPart
    golden: tuple[GoldenPart, ...]
    golden_tolerance: float
    """Largest difference of a golden score that is still the same model."""
    tools: dict[str, str]
    files: dict[str, Sha256]


@dataclass(frozen=True, slots=True)
class Graph:
    """What a runtime needs to know of a model."""

    path: Path
    """The ONNX file."""
    size: tuple[int, int]
    """(H, W) of the input."""
    names: ModelPart = field(default_factory=ModelPart)
    product: str = ""
    """Whose model it is, for messages; empty where it is nobody's yet."""
    revision: str = ""
    precisions: Mapping[str, Path] = field(default_factory=dict)
    """The model in fewer bits: `fp16`, `int8`, where there is one."""

    def file(self, precision: str) -> Path:
        """The ONNX file for a precision that lies in the model.

        Raises:
            RuntimeUnavailableError: this model has none; it must be made again.
        """
        found = self.precisions.get(precision)
        if found is None:
            raise RuntimeUnavailableError(
                f"{self.path}: this revision has no {precision} model (calibrate makes one where "
                f"it reproduces the reference); take a runtime of another precision, or calibrate "
                f"{self.product or 'the product'} anew"
            )
        return found


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened revision whose files are the ones that were written."""

    path: Path
    manifest: Manifest

    @property
    def graph(self) -> Graph:
        """The model."""
        manifest = self.manifest
        return Graph(
            self.path / MODEL,
            manifest.preprocessing.input_size,
            manifest.model,
            manifest.product,
            manifest.revision,
            {name: self.path / part.file for name, part in manifest.precisions.items()},
        )

    @property
    def threshold(self) -> Threshold:
        """The calibrated threshold."""
        return self.manifest.threshold.as_record()

    def scope(self) -> Scope:
        """What of a picture counts.

        Raises:
            BundleError: the region's file is no region of the map.
        """
        part, preprocessing = self.manifest.scope, self.manifest.preprocessing
        roi = None if part.roi is None else read_roi(self.path, preprocessing.crop)
        return scope_of(part, preprocessing, roi)

    def golden_images(self) -> Iterator[tuple[GoldenPart, ImageArray]]:
        """Each golden picture, (H, W, 3), with what must come out."""
        for golden in self.manifest.golden:
            yield golden, read_image(self.path / golden.file)


def open_bundle(path: Path) -> Bundle:
    """Opens a revision and checks every file against the manifest.

    Raises:
        BundleError: no manifest, or one that isn't valid.
        BundleSchemaError: the manifest is of another schema version.
        BundleIntegrityError: a file is missing, damaged or not listed; it is named.
    """
    manifest = read_manifest(path)
    _check_seal(path)
    others = [part.file for part in manifest.precisions.values()]
    region = [] if manifest.scope.roi is None else [manifest.scope.roi]
    for name in (MODEL, *others, *region, *(golden.file for golden in manifest.golden)):
        if name not in manifest.files:
            raise BundleIntegrityError(path, name, "is not listed in the manifest")
    for name, expected in manifest.files.items():
        _check_file(path, name, expected)
    surplus = {
        file.relative_to(path).as_posix()
        for file in path.rglob("*")
        if file.is_symlink() or not file.is_dir()
    } - {*manifest.files, MANIFEST, SEAL}
    if surplus:
        raise BundleIntegrityError(path, sorted(surplus)[0], "is not listed in the manifest")
    return Bundle(path, manifest)


def read_manifest(path: Path) -> Manifest:
    """Reads and validates ``manifest.json`` of a revision without hashing the other files.

    Raises:
        BundleError, BundleSchemaError: see `open_bundle`.
    """
    try:
        with (path / MANIFEST).open("rb") as file:
            text = file.read(MAX_MANIFEST_BYTES + 1)
        content = json.loads(text)
    except FileNotFoundError as error:
        raise BundleError(path, f"has no {MANIFEST}; it is not a product revision") from error
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(path, f"{MANIFEST} can't be read ({error})") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version not in READABLE or isinstance(version, bool):
        raise BundleSchemaError(
            path,
            f"{MANIFEST} has schema version {version}, this program knows "
            f"{READABLE[0]} to {SCHEMA_VERSION}; update inspectd or calibrate the product with "
            "this version",
        )
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(path, f"{MANIFEST} is not valid at {where}: {first['msg']}") from error


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Writes ``manifest.json`` and its seal; the last step in making a revision."""
    text = manifest.model_dump_json(indent=2).encode()
    (path / MANIFEST).write_bytes(text)
    seal = f"{hashlib.sha256(text).hexdigest()}  {MANIFEST}\n"
    (path / SEAL).write_text(seal, encoding="ascii")


def _check_seal(path: Path) -> None:
    """The manifest is the one that was written, to the byte."""
    try:
        seal = (path / SEAL).read_bytes()
    except OSError as error:
        raise BundleIntegrityError(path, SEAL, "is missing") from error
    if seal != f"{sha256_of(path / MANIFEST)}  {MANIFEST}\n".encode():
        raise BundleIntegrityError(path, MANIFEST, f"is damaged: its sha256 is not {SEAL}'s")


def _check_file(path: Path, name: str, expected: str) -> None:
    file = path / name
    if Path(name).is_absolute() or file.resolve() != path.resolve() / name:
        raise BundleIntegrityError(path, name, "lies outside the bundle or is a link")
    if not file.is_file():
        raise BundleIntegrityError(path, name, "is missing")
    if sha256_of(file) != expected:
        raise BundleIntegrityError(path, name, "is damaged: its sha256 is not the manifest's")

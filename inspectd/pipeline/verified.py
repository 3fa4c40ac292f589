"""What the parity gate found, kept on the machine where it was found.

A bundle is immutable and goes to other machines; what is recorded here depends on this one's
runtime, driver and engine. So it lies in the cache, ``verified/<model>/<runtime>.json``, by the
model's sha256 and the runtime's full name: another version, precision, GPU or engine has another
name, and must be compared anew.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from inspectd.core.contracts import MustProve, Runtime
from inspectd.core.errors import ParityError
from inspectd.core.files import write_atomically
from inspectd.pipeline.parity import Parity

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Record:
    """The outcome of the last comparison."""

    passed: bool
    problems: tuple[str, ...]
    n_golden: int
    n_holdout: int
    difference: float | None
    """Largest of a score; None where one was no number."""
    at: str
    """UTC, with zone."""

    def proves(self, rounding: float) -> bool:
        """Whether it lets a runtime decide: one that rounds must have seen a hold-out set."""
        return self.passed and (rounding == 0 or self.n_holdout > 0)


def write(cache: Path, model: str, runtime: str, parity: Parity) -> Path:
    """Records an outcome for a model, by its sha256, and a runtime, by its name.

    What passed on a hold-out set isn't replaced by what passed on golden pictures alone.
    """
    path = _path(cache, model, runtime)
    before = read(cache, model, runtime)
    is_lesser = before is not None and before.passed and before.n_holdout > parity.n_holdout == 0
    if parity.passed and is_lesser:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "schema": SCHEMA,
        "model": model,
        "runtime": runtime,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        **parity.as_json(),
    }
    write_atomically(path, json.dumps(_finite(content), indent=2, allow_nan=False).encode())
    return path


def read(cache: Path, model: str, runtime: str) -> Record | None:
    """The last outcome; None where there is none that can be read."""
    try:
        content: dict[str, Any] = json.loads(_path(cache, model, runtime).read_bytes())
        if (content["schema"], content["model"], content["runtime"]) != (SCHEMA, model, runtime):
            return None
        return Record(
            passed=content["passed"] is True and not content["problems"],
            problems=tuple(content["problems"]),
            n_golden=content["n_golden"],
            n_holdout=content["n_holdout"],
            difference=content["difference"],
            at=content["at"],
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None


def find(cache: Path, runtime: str) -> Record | None:
    """The outcome for a runtime whose name says which model it is, as an engine's does."""
    for folder in sorted((cache / "verified").glob("*")):
        try:
            model = json.loads((folder / _file(runtime)).read_bytes())["model"]
        except (OSError, ValueError, TypeError, KeyError):
            continue
        return read(cache, str(model), runtime)
    return None


def admit(cache: Path, model: str, runtime: Runtime) -> None:
    """Lets a runtime decide, or not.

    Raises:
        ParityError: it was compared and failed, or must be compared and wasn't.
    """
    record = read(cache, model, runtime.name)
    if record is not None and not record.passed:
        raise ParityError(
            f"{runtime.name} doesn't reproduce the reference: {'; '.join(record.problems)}. "
            "Choose another runtime or precision"
        )
    if not isinstance(runtime, MustProve) or not runtime.proof_command:
        return
    if record is None or not record.proves(runtime.rounding):
        where = "" if record is None else " on a hold-out set"
        raise ParityError(
            f"{runtime.name} hasn't been compared with the reference{where}; do it with: "
            f"{runtime.proof_command}"
        )


def _path(cache: Path, model: str, runtime: str) -> Path:
    return cache / "verified" / model[:16] / _file(runtime)


def _file(runtime: str) -> str:
    slug = re.sub(r"[^a-z0-9.]+", "-", runtime.lower()).strip("-")[:80]
    digest = hashlib.sha256(runtime.encode()).hexdigest()[:8]
    return f"{slug}-{digest}.json"


def _finite(content: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(content, float) and content - content != 0:
        return None
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return content

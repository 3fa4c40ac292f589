"""Compiles the producer, once, into the cache: ``python -m inspectd.simcam.build`` prints its path.

The folder's name is a hash of the sources and of the flags, so that a changed source is compiled
anew and several versions can be used side by side.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from inspectd.core.errors import CameraError
from inspectd.core.paths import cache_dir

SOURCES = Path(__file__).parent / "producer"
NAME = "inspectd.cti"
COMPILER = "gcc"
FLAGS = (
    *("-shared", "-fPIC", "-std=c11", "-O2", "-fvisibility=hidden", "-pthread"),
    *("-Wall", "-Wextra", "-Werror"),
)


def producer_path(extra_flags: Sequence[str] = (), cache: Path | None = None) -> Path:
    """The compiled producer; `extra_flags` are gcc's, for instance ``-fsanitize=thread``.

    Raises:
        CameraError: it isn't compiled yet and there is no compiler, or the compiler failed.
    """
    flags = (*FLAGS, *extra_flags)
    folder = (cache or cache_dir()) / "simcam" / _fingerprint(flags)
    path = folder / NAME
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _compile(path, flags)
    return path


def _fingerprint(flags: Sequence[str]) -> str:
    digest = hashlib.sha256(" ".join(flags).encode())
    for source in sorted(SOURCES.glob("*.[ch]")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]


def _compile(path: Path, flags: Sequence[str]) -> None:
    """Writes `path` at once: another process sees the whole file or none."""
    compiler = shutil.which(COMPILER)
    if compiler is None:
        raise CameraError(
            f"the virtual camera has to be compiled and there is no {COMPILER}; "
            f"apt-get install {COMPILER} libc6-dev, or use the folder camera"
        )
    sources = [str(source) for source in sorted(SOURCES.glob("*.c"))]
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        made = Path(scratch) / NAME
        done = subprocess.run(
            [compiler, *flags, *sources, "-o", str(made)], capture_output=True, text=True
        )
        if done.returncode != 0:
            raise CameraError(
                f"{COMPILER} couldn't compile the virtual camera; if it lacks headers, "
                f"apt-get install libc6-dev. It said:\n{done.stderr.strip()}"
            )
        made.replace(path)


def main() -> None:
    """Compiles where needed and prints the path."""
    try:
        sys.stdout.write(f"{producer_path()}\n")
    except CameraError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

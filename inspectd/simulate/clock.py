"""A clock of the daemon's own: its UTC can be put forward and back while it runs.

A small library, loaded before all others, adds to the real-time clock what a mapped file says. The
monotonic clock and every timed wait are the machine's own. (libfaketime would be the usual tool;
with its monotonic clock left alone it makes every `time.sleep` of Python 3.11 fail with EINVAL.)
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import shutil
import subprocess
import tempfile
from pathlib import Path

from inspectd.core.errors import InspectdError
from inspectd.core.paths import cache_dir

VARIABLE = "INSPECTD_SIMULATED_CLOCK"
SOURCE = Path(__file__).with_name("clock.c")
COMPILER = "gcc"
FLAGS = ("-shared", "-fPIC", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror")


class ShiftedClock:
    """The file that the library reads; made without a shift."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(ctypes.sizeof(ctypes.c_int64)))
        self.path = path
        with path.open("r+b") as file:
            size = ctypes.sizeof(ctypes.c_int64)
            self._shift_ns = ctypes.c_int64.from_buffer(mmap.mmap(file.fileno(), size))

    def shift(self, ahead_s: float) -> None:
        """From now on UTC is so many seconds ahead of the machine's."""
        self._shift_ns.value = round(ahead_s * 1e9)

    def environment(self) -> dict[str, str]:
        """For the processes whose clock it is to be.

        Raises:
            InspectdError: the library isn't compiled yet and can't be.
        """
        return {"LD_PRELOAD": str(library_path()), VARIABLE: str(self.path.resolve())}


def library_path() -> Path:
    """The compiled library, in the cache.

    Raises:
        InspectdError: there is no compiler, or it failed.
    """
    digest = hashlib.sha256(SOURCE.read_bytes() + " ".join(FLAGS).encode()).hexdigest()[:16]
    path = cache_dir() / "simulate" / digest / "clock.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _compile(path)
    return path


def clock_problem() -> str | None:
    """Why the daemon's clock can't be shifted here; None where it can."""
    try:
        library_path()
    except InspectdError as error:
        return str(error)
    return None


def _compile(path: Path) -> None:
    compiler = shutil.which(COMPILER)
    if compiler is None:
        raise InspectdError(
            f"clock-jump: a library has to be compiled and there is no {COMPILER}; "
            f"apt-get install {COMPILER} libc6-dev"
        )
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        made = Path(scratch) / path.name
        done = subprocess.run(
            [compiler, *FLAGS, str(SOURCE), "-o", str(made)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise InspectdError(f"clock-jump: {COMPILER} failed:\n{done.stderr.strip()}")
        made.replace(path)

"""Runs the checks without pytest: ``DEST/trtpython tests/gpu/run.py [NAME ...]``.

``DEST/trtpython`` comes from ``unpack-tensorrt86`` of ../shared/gpu; any Python 3.11 or newer with
NumPy, tensorrt, pycuda and, better, cuda-bindings will do. The exit status is 1 if one fails.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))
import checks

from inspectd.core.errors import RuntimeUnavailableError


def main(names: list[str]) -> int:
    """Runs those whose name has one of the words in it; all where none is given."""
    failed = 0
    try:
        with checks.bench() as bench:
            cuda = ".".join(map(str, checks.drivers.probe().cuda))
            capability = ".".join(map(str, bench.gpu.capability))
            say(f"{bench.gpu.name}, compute capability {capability}, driver for CUDA {cuda}")
            say(f"TensorRT {bench.vendor.version}, graphs: {bench.vendor.graphs is not None}")
            for check in checks.CHECKS:
                if not names or any(name in check.__name__ for name in names):
                    failed += not passed(check, bench)
    except RuntimeUnavailableError as error:
        say(f"not run: {error}")
        return 1
    say("all passed" if not failed else f"{failed} FAILED")
    return 1 if failed else 0


def passed(check: object, bench: object) -> bool:
    """Runs one and says how it went."""
    name = check.__name__.removeprefix("check_")  # type: ignore[attr-defined]
    started = perf_counter()
    try:
        found = check(bench)  # type: ignore[operator]
    except Exception:  # noqa: BLE001 - whatever it is, the other checks run too
        say(f"FAIL  {name}\n{traceback.format_exc()}")
        return False
    say(f"ok    {name} ({perf_counter() - started:.1f} s) {found}")
    return True


def say(text: str) -> None:
    """On stdout, at once."""
    print(text, flush=True)  # noqa: T201 - it is a program


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Commands to a virtual camera from another terminal, while a host is using it.

``python -m inspectd.simcam.control DIRECTORY SERIAL COMMAND...``; the command goes into the mapped
rig, so that it takes effect at once and needs no server.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from inspectd.core.errors import CameraError
from inspectd.simcam.commands import usage
from inspectd.simcam.rig import Rig


def command(directory: Path, serial: str, text: str) -> str:
    """Does one command to one camera of the rig in this directory; answers in one line.

    Raises:
        CameraError: no such rig, camera or command.
    """
    with Rig.attach(directory) as rig:
        return rig.command(serial, text)


def main() -> None:
    """One command from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m inspectd.simcam.control",
        epilog=f"commands:\n{usage()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("directory", type=Path, help="the rig's directory")
    parser.add_argument("serial")
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    try:
        answer = command(given.directory, given.serial, " ".join(given.command))
    except CameraError as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(f"{answer}\n")


if __name__ == "__main__":
    main()

"""The daemon's side of a camera's child: starts it, watches it, kills it, starts the next one.

A child that says nothing for too long is wedged inside a producer and is killed. One that ended
(its camera was lost) or was killed is followed by a fresh one after a pause that grows while
children keep failing, up to a bound. None outlives the daemon: see `inspectd.acquisition.child`.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import sys
from array import array
from contextlib import suppress
from time import monotonic

from inspectd.acquisition.messages import MAX_BYTES, Alive, Gone, Message, Ready, Refused, unpack
from inspectd.acquisition.ring import RingReader
from inspectd.core.config import GenicamSection

SILENCE_S = {"opening": 15.0, "waiting": 10.0, "streaming": 1.5}
"""How long a child in each phase may say nothing; enumeration of GigE cameras takes its time."""
PAUSES_S = (0.0, 0.2, 0.5, 1.0, 2.0)
MICROSECOND = 1e-6
STEADY_S = 0.5
"""Of streaming, after which earlier failures are forgotten."""
STOP_S = 2.0
"""For an orderly end, before it is killed."""


class Host:
    """One camera's child, whichever process that is at the moment."""

    def __init__(self, section: GenicamSection) -> None:
        self._section = section.model_dump_json().encode()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._lifeline = -1
        self._heard = 0.0
        self._phase = "opening"
        self._start_at = 0.0
        self._steady_at = 0.0
        self._failures = 0
        self._graveyard: list[subprocess.Popen[bytes]] = []
        self.ring: RingReader | None = None
        self.detail = "the camera is being opened"
        """What the child said last, for people."""

    @property
    def pid(self) -> int | None:
        """Of the child that runs now."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Starts the first child."""
        self._failures = 0
        self._spawn()

    def stop(self) -> None:
        """Ends the child within `STOP_S`, or kills it; no process is left behind."""
        if self._process is not None:
            self.send("stop")
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
        self._bury()
        for process in self._graveyard:
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
        self.ring = None

    def send(self, word: str) -> None:
        """A command to the child, if there is one."""
        if self._channel is not None:
            with suppress(OSError):
                self._channel.send(word.encode(), socket.MSG_DONTWAIT)

    def receive(self, timeout_s: float) -> Message | None:
        """The child's next message; `Gone` where it ended, fell silent or was replaced.

        Starts the next child when its time has come. None if nothing happened in time.
        """
        now = monotonic()
        if self._channel is None:
            wait = self._start_at - now
            if wait > timeout_s:
                select.select([], [], [], timeout_s)
                return None
            if wait > 0:
                select.select([], [], [], wait)
            self._spawn()
            return None
        silent_at = self._heard + SILENCE_S[self._phase]
        message = self._read(self._channel, min(timeout_s, silent_at - now))
        if message is None and monotonic() >= silent_at:
            said = self._phase
            self._bury()
            return Gone(f"the producer answers no more ({said}); its process was killed")
        return message

    def _read(self, channel: socket.socket, timeout_s: float) -> Message | None:
        try:
            packet, handles = _packet(channel, timeout_s)
        except BlockingIOError:
            return None
        except OSError:
            packet, handles = b"", []
        if not packet:
            self._bury()
            return Gone("the camera's process died")
        self._heard = monotonic()
        message = unpack(packet)
        if isinstance(message, Ready):
            self.ring = RingReader(handles[0], message.slots, message.slot_bytes)
            self._phase, self._steady_at = "streaming", self._heard + STEADY_S
        elif isinstance(message, Alive):
            self._phase = message.phase
            if message.phase == "streaming" and self._heard >= self._steady_at:
                self._failures = 0
                self._sweep()
            self.detail = message.detail or self.detail
        elif isinstance(message, Gone | Refused):
            self.detail = message.detail
            self._bury()
        return message

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        reading, self._lifeline = os.pipe()
        command = [sys.executable, "-m", "inspectd.acquisition.child"]
        try:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno()), str(reading)],
                pass_fds=(theirs.fileno(), reading),
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a terminal's Ctrl-C is for the daemon
            )
        finally:
            theirs.close()
            os.close(reading)
        self._channel = ours
        with suppress(BrokenPipeError):  # it died already, which `receive` will find
            self._channel.send(self._section)
        self._heard, self._phase = monotonic(), "opening"

    def _bury(self) -> None:
        """Kills the child, lets go of all that was its own, and sets when the next one starts."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        if self._process is not None:
            self._process.kill()
            self._graveyard.append(self._process)
            self._process = None
        self._sweep()
        self._start_at = monotonic() + PAUSES_S[min(self._failures, len(PAUSES_S) - 1)]
        self._failures += 1

    def _sweep(self) -> None:
        """Takes leave of killed children that have ended."""
        self._graveyard = [process for process in self._graveyard if process.poll() is None]


def _packet(channel: socket.socket, timeout_s: float) -> tuple[bytes, list[int]]:
    """The next packet and the files in it, in one system call.

    Each call lets go of the interpreter's lock, and getting that back takes 5 ms where another
    thread computes: `select` first would double a frame's latency.

    Raises:
        BlockingIOError: none came in time.
    """
    flags = 0
    if timeout_s < MICROSECOND:  # to the kernel, 0 is for ever
        flags = socket.MSG_DONTWAIT
    else:
        seconds, rest = divmod(timeout_s, 1)
        limit = struct.pack("@ll", int(seconds), max(1, int(rest / MICROSECOND)))
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    handles = array("i")
    room = socket.CMSG_LEN(handles.itemsize)
    packet, control, _, _ = channel.recvmsg(MAX_BYTES, room, flags)  # `recv_fds` ignores flags
    for level, kind, content in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            handles.frombytes(content)
    return packet, handles.tolist()

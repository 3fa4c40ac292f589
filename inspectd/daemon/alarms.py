"""Alarms: what people have to know, each with an id until somebody confirms it.

A flood of one kind becomes one alarm a second, which says how many it stands for. Raising never
blocks and may be done from any thread.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from time import monotonic
from uuid import uuid4

import structlog

log = structlog.get_logger()

EVERY_S = 1.0
MAX_UNCONFIRMED = 100
"""The oldest of more are forgotten: they were told, and are in the log."""


class Alarms:
    """The alarms of one lane; calling it raises one."""

    def __init__(self, publish: Callable[[dict[str, object]], None]) -> None:
        self._publish = publish
        self._lock = threading.Lock()
        self._unconfirmed: OrderedDict[str, str] = OrderedDict()
        self._told_at: dict[str, float] = {}
        self._held_back: dict[str, int] = {}
        self._run = uuid4().hex[:8]
        self._numbers = count(1)

    @property
    def unconfirmed(self) -> dict[str, str]:
        """Id to kind, oldest first."""
        with self._lock:
            return dict(self._unconfirmed)

    def __call__(self, kind: str, text: str, **facts: object) -> None:
        """Logs and publishes an alarm; `kind` is a word such as `camera_lost`."""
        now = monotonic()
        with self._lock:
            if now - self._told_at.get(kind, -EVERY_S) < EVERY_S:
                self._held_back[kind] = self._held_back.get(kind, 0) + 1
                return
            self._told_at[kind] = now
            more = self._held_back.pop(kind, 0)
            alarm_id = f"{self._run}-{next(self._numbers)}"
            self._unconfirmed[alarm_id] = kind
            while len(self._unconfirmed) > MAX_UNCONFIRMED:
                self._unconfirmed.popitem(last=False)
        text = f"{text} (and {more} more before)" if more else text
        log.error(kind, alarm_id=alarm_id, detail=text, **facts)
        raised_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._publish(
            {
                "schema": "inspectd/alarm/1",
                "alarm_id": alarm_id,
                "kind": kind,
                "text": text,
                "raised_at": raised_at,
                **facts,
            }
        )

    def confirm(self, alarm_id: str | None) -> int:
        """Confirms one alarm, or all; returns how many that were."""
        with self._lock:
            if alarm_id is None:
                confirmed = len(self._unconfirmed)
                self._unconfirmed.clear()
                return confirmed
            return int(self._unconfirmed.pop(alarm_id, None) is not None)

"""Keeps a lane's ledger in bounds: its log, its size and age, and what a full disk leaves of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic

import structlog

from inspectd.core.config import LedgerSection
from inspectd.core.errors import LedgerError
from inspectd.daemon.answers import Alarm
from inspectd.ledger import Bounds, Ledger

log = structlog.get_logger()

LOOK_EVERY_S = 2.0
TRIM_EVERY_S = 60.0
ROOMY = 1.25
"""The disk counts as free again at so many times the limit."""
MIB = 2**20


class Housekeeping:
    """Called now and then by the main thread; no part waits for it long."""

    def __init__(self, ledger: Ledger, section: LedgerSection, alarm: Alarm) -> None:
        self._ledger = ledger
        self._section = section
        self._alarm = alarm
        self._looked_at = self._trimmed_at = monotonic()

    def __call__(self) -> None:
        """Does what is due."""
        now = monotonic()
        if now - self._looked_at > LOOK_EVERY_S:
            self._looked_at = now
            self._guarded(self._look_at_disk)
            self._guarded(self._ledger.checkpoint)
        if now - self._trimmed_at > TRIM_EVERY_S:
            self._trimmed_at = now
            self._guarded(self._trim)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (LedgerError, OSError) as error:
            self._alarm("ledger_failed", str(error))

    def _look_at_disk(self) -> None:
        """Where the disk gets full, pictures are given up before verdicts."""
        folder, limit = self._ledger.path.parent, self._section.min_free_mib * MIB
        free = shutil.disk_usage(folder).free
        if free < limit and not self._ledger.is_tight:
            self._ledger.is_tight = True
            text = f"{free // MIB} MiB are free: masks and records of waiting verdicts are dropped"
            self._alarm("disk_full", text, path=str(folder))
            self._ledger.drop_pictures()
        elif free > limit * ROOMY and self._ledger.is_tight:
            self._ledger.is_tight = False
            log.info("disk_free_again", mib=free // MIB)

    def _trim(self) -> None:
        section = self._section
        bounds = Bounds(
            section.max_rows, section.max_undelivered, section.max_age_days, section.max_mib * MIB
        )
        lost = self._ledger.trim(bounds, datetime.now(UTC))
        if lost.verdicts:
            text = f"{lost.verdicts} undelivered verdicts were dropped"
            self._alarm("verdicts_given_up", text)
        if lost.pictures:
            text = f"masks and records of {lost.pictures} undelivered verdicts were dropped"
            self._alarm("records_given_up", text)

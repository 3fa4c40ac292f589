"""Letters that wait for the broker, and how far the reading of them has come.

They lie in the ledger. Where that can't take one (a full disk), memory holds it, within bounds.
Everything that leaves here is marked `late`: its part has gone by.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from time import monotonic

import structlog

from inspectd.core.errors import LedgerError
from inspectd.ledger import Ledger, Letter
from inspectd.publishers.messages import marked_late

log = structlog.get_logger()

AT_ONCE = 4
"""Taken at a time, so that a live letter never waits behind many."""
MAX_ORPHANS = 2_000
"""Letters that the ledger couldn't take."""
MAX_UNNOTED = 10_000
"""Delivered letters that the ledger couldn't note yet."""
LOOK_AGAIN_S = 30.0
"""When letters are tried again that the broker refused, or that couldn't be read."""


class Backlog:
    """See the module; used by the publisher's thread only."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._orphans: deque[Letter] = deque()
        self._unnoted: deque[str] = deque(maxlen=MAX_UNNOTED)
        self._cursor = 0
        self._has_more = True
        self._rewind_at: float | None = None

    def __bool__(self) -> bool:
        """Whether there may be letters to take."""
        return self._has_more or bool(self._orphans)

    @property
    def is_rewind_due(self) -> bool:
        """Whether letters that were left behind are to be tried again."""
        return self._rewind_at is not None and monotonic() >= self._rewind_at

    def rewind(self) -> None:
        """Reads from the beginning again; what of it is in flight would go out twice."""
        self._rewind_at = None
        self._cursor, self._has_more = 0, True

    def rewind_later(self) -> None:
        """The same after `LOOK_AGAIN_S`."""
        self._rewind_at = monotonic() + LOOK_AGAIN_S

    def has_grown(self) -> None:
        """Something was put behind by another thread."""
        self._has_more = True

    def put(self, letters: list[Letter]) -> None:
        """Puts letters behind; in memory, bounded, where even the ledger fails."""
        if not letters:
            return
        try:
            unknown = self._ledger.postpone([letter.result_id for letter in letters])
        except LedgerError as error:
            log.error("ledger_failed", error=str(error))
            unknown = {letter.result_id for letter in letters}
        self._orphans.extend(letter for letter in letters if letter.result_id in unknown)
        if (excess := len(self._orphans) - MAX_ORPHANS) > 0:
            for _ in range(excess):
                self._orphans.popleft()
            log.error("verdicts_given_up", count=excess, reason="no broker and no ledger")

    def take_orphan(self) -> Letter | None:
        """The oldest letter that only memory holds."""
        return late(self._orphans.popleft()) if self._orphans else None

    def look(self) -> list[Letter]:
        """The next few of the ledger, in order; each is to be `passed` when it is sent."""
        if not self._has_more:
            return []
        try:
            letters = self._ledger.backlog(self._cursor, AT_ONCE)
        except LedgerError as error:
            log.error("ledger_failed", error=str(error))
            letters = []
            self.rewind_later()
        self._has_more = bool(letters)
        return [late(letter) for letter in letters]

    def passed(self, letter: Letter) -> None:
        """It is on its way: the next look begins behind it."""
        self._cursor = letter.seq

    def note_delivered(self, *result_ids: str) -> None:
        """The broker has them; what can't be noted now is noted with the next."""
        self._unnoted.extend(result_ids)
        if not self._unnoted:
            return
        try:
            self._ledger.deliver(self._unnoted)
        except LedgerError as error:
            log.error("ledger_failed", error=str(error))
        else:
            self._unnoted.clear()

    def close(self) -> None:
        """Says what is lost with this process."""
        self.note_delivered()
        if self._orphans:
            reason = "no broker and no ledger"
            log.error("verdicts_given_up", count=len(self._orphans), reason=reason)


def late(letter: Letter) -> Letter:
    """The same letter, saying that it is late."""
    return replace(
        letter,
        verdict=marked_late(letter.verdict),
        result=None if letter.result is None else marked_late(letter.result),
        deadline_ns=None,
    )

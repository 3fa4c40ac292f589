"""The ledger: one row per trigger, from its arrival until its verdict is with the broker.

A row is `OPEN` while a part is inspected, `LIVE` once its verdict is decided and on its way,
`BACKLOG` when it has to wait for the broker, and `DELIVERED` at the end. Whatever happens to the
daemon in between, the next start finds the row: an open one is answered `undecided`, an
undelivered one is sent again under the same `result_id`.

SQLite in WAL mode. With ``synchronous=NORMAL`` a committed row outlives the death of the daemon
(it is in the operating system's hands); a power cut may lose the last rows. ``FULL`` waits for the
disk at each commit and outlives that too. The log is copied into the database by `checkpoint`, from
a connection of its own: no part waits for that disk access.

The ledger is bounded by rows, age and bytes (`trim`); where something must go, pictures go first.

Two daemons on one ledger would answer each other's parts: the second is refused.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from inspectd.core.errors import LedgerError
from inspectd.core.records import Ticket, Trigger

MIGRATIONS = (
    """
    CREATE TABLE part (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        result_id TEXT NOT NULL UNIQUE,
        state INTEGER NOT NULL,
        camera TEXT NOT NULL,
        part_id TEXT NOT NULL,
        frame_id INTEGER NOT NULL,
        trigger_count INTEGER,
        encoder INTEGER,
        device_ns INTEGER,
        captured_at TEXT NOT NULL,
        captured_ns INTEGER NOT NULL,
        verdict TEXT,
        result TEXT,
        mask BLOB
    ) STRICT;
    CREATE INDEX part_waiting ON part (state, seq) WHERE state < 3;
    """,
    """
    ALTER TABLE part ADD COLUMN later TEXT;
    CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    """,
)
"""Statement n takes a ledger from version n to n + 1 (`PRAGMA user_version`)."""
BUSY_S = 0.05
"""How long a part waits for somebody else who writes the file; then it goes on without a row."""
PAGE_BYTES = 4096
MAX_LOG_BYTES = 16 * 2**20
"""The log's file is cut back to this after a checkpoint."""
SLICE = 500
"""Rows that one transaction of the housekeeping touches."""
SLICES = 200
IMPLAUSIBLE_DAYS = 3650.0
"""A part that seems older was triggered while the clock was wrong: its age isn't known."""
ENDED = "ended"
"""A fact: the last number of a run that ended in order."""
UNWRITABLE = (sqlite3.Error, OverflowError, UnicodeEncodeError)
"""What SQLite says of a full disk, of a counter beyond 64 bits, of a name that isn't Unicode."""


class State(IntEnum):
    """How far a part has come."""

    OPEN = 0
    LIVE = 1
    BACKLOG = 2
    DELIVERED = 3


@dataclass(frozen=True, slots=True)
class Letter:
    """The messages of one decided part, ready to be sent."""

    seq: int
    result_id: str
    verdict: str
    """JSON."""
    result: str | None = None
    """JSON; None where full records aren't published."""
    mask: bytes | None = None
    """PNG; None where there is no defect."""
    deadline_ns: int | None = None
    """`time.monotonic_ns()` after which the verdict is late; not kept on disk."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a ledger may grow to."""

    rows: int
    """Delivered verdicts."""
    undelivered: int
    """Verdicts that wait for the broker."""
    age_days: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What had to go of what wasn't delivered yet."""

    verdicts: int
    pictures: int
    """Masks and records; their verdicts stay."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Rows that may go."""

    state: State
    where: str
    """SQL of our own."""
    values: tuple[object, ...]


class Ledger:
    """The open ledger; usable from any thread, one statement at a time."""

    def __init__(self, path: Path, durability: str = "normal") -> None:
        self.path = path
        self._durability = durability
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._copier: sqlite3.Connection | None = None
        self._claim: int | None = None
        self._last_seq = 0
        self._is_first = True
        self.is_tight = False
        """Set where the disk is nearly full: verdicts are kept, masks and records are not."""

    def __enter__(self) -> Self:
        """Opens the ledger, or makes it.

        Raises:
            LedgerError: it is damaged, of a newer version, another daemon's, or can't be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._claim_it()
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            os.close(handle)
            self._connection = sqlite3.connect(
                self.path, check_same_thread=False, isolation_level=None, timeout=BUSY_S
            )
            self._prepare(self._connection)
            self._copier = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
            self._copier.execute(f"PRAGMA journal_size_limit={MAX_LOG_BYTES}")
        except (OSError, sqlite3.Error) as error:
            self.__exit__(None, None, None)
            raise LedgerError(
                f"{self.path} can't be opened ({error}); check the disk and who owns the state "
                "directory, or move the damaged file away: undelivered verdicts in it are lost"
            ) from error
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            for connection in (self._copier, self._connection):
                if connection is not None:
                    with suppress(sqlite3.Error):  # a full disk; the rows are safe in its log
                        connection.close()
            self._connection = self._copier = None
            if self._claim is not None:
                os.close(self._claim)
            self._claim = None

    def open_part(self, trigger: Trigger) -> Ticket:
        """Gives a trigger its row, number and result id, before anything else happens to it.

        Raises:
            LedgerError: the row can't be written; `spare_ticket` then keeps the line going.
        """
        with self._lock:
            ticket = Ticket(self._last_seq + 1, str(uuid.uuid4()), trigger)
            with self._transaction() as connection:
                connection.execute(
                    "INSERT INTO part (seq, result_id, state, camera, part_id, frame_id,"
                    " trigger_count, encoder, device_ns, captured_at, captured_ns)"
                    " VALUES (?,?,?,?,?,?,?,?,?,?,?)",
                    (
                        ticket.seq,
                        ticket.result_id,
                        State.OPEN,
                        trigger.camera,
                        trigger.part_id,
                        trigger.frame_id,
                        trigger.trigger_count,
                        trigger.encoder,
                        trigger.device_ns,
                        trigger.captured_at.isoformat(),
                        trigger.captured_ns,
                    ),
                )
                if self._is_first:
                    connection.execute("DELETE FROM fact WHERE name=?", (ENDED,))
            self._last_seq = ticket.seq
            self._is_first = False
        return ticket

    def spare_ticket(self, trigger: Trigger) -> Ticket:
        """A ticket without a row, for when the disk is full: the verdict still goes out."""
        with self._lock:
            self._last_seq += 1
            return Ticket(self._last_seq, str(uuid.uuid4()), trigger)

    def decide(self, letter: Letter) -> None:
        """Stores a decided part's messages; they are on their way from here on.

        Raises:
            LedgerError: the row can't be written.
        """
        result, mask = (None, None) if self.is_tight else (letter.result, letter.mask)
        with self._transaction() as connection:
            connection.execute(
                "UPDATE part SET state=?, verdict=?, result=?, mask=?"
                " WHERE result_id=? AND state=?",
                (State.LIVE, letter.verdict, result, mask, letter.result_id, State.OPEN),
            )

    def note_later(self, result_id: str, result: str) -> None:
        """Stores what was found after the part had been answered; it is not sent.

        Raises:
            LedgerError: the row can't be written.
        """
        with self._transaction() as connection:
            connection.execute("UPDATE part SET later=? WHERE result_id=?", (result, result_id))

    def postpone(self, result_ids: Iterable[str]) -> set[str]:
        """Puts letters that couldn't be sent now behind, for when the broker is back.

        Returns:
            Those that have no decided row (the disk was full when they were decided).

        Raises:
            LedgerError: nothing could be written.
        """
        wanted = set(result_ids)
        with self._transaction() as connection:
            return {
                result_id
                for result_id in wanted
                if not connection.execute(
                    "UPDATE part SET state=? WHERE result_id=? AND verdict IS NOT NULL",
                    (State.BACKLOG, result_id),
                ).rowcount
            }

    def deliver(self, result_ids: Iterable[str]) -> None:
        """Notes that the broker has these; their masks and records are dropped."""
        with self._transaction() as connection:
            connection.executemany(
                "UPDATE part SET state=?, result=NULL, mask=NULL WHERE result_id=?",
                [(State.DELIVERED, result_id) for result_id in result_ids],
            )

    def recover(self) -> list[Ticket]:
        """At start: what was on its way becomes backlog; returns the parts without a verdict."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE part SET state=? WHERE state=? AND state<3", (State.BACKLOG, State.LIVE)
            )
            rows = connection.execute(
                "SELECT seq, result_id, camera, part_id, frame_id, captured_at, captured_ns,"
                " trigger_count, encoder, device_ns FROM part WHERE state=? AND state<3"
                " ORDER BY seq",
                (State.OPEN,),
            ).fetchall()
        return [_ticket(row) for row in rows]

    def backlog(self, after: int, limit: int) -> list[Letter]:
        """Letters that wait for the broker, in order of `seq`, beginning behind `after`."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT seq, result_id, verdict, result, mask FROM part"
                " WHERE state=? AND state<3 AND seq>? ORDER BY seq LIMIT ?",
                (State.BACKLOG, after, limit),
            ).fetchall()
        return [Letter(*row) for row in rows]

    def waiting(self) -> int:
        """Parts whose verdict isn't with the broker yet."""
        with self._transaction() as connection:
            row = connection.execute("SELECT count(*) FROM part WHERE state < 3").fetchone()
        return int(row[0])

    def end_run(self) -> None:
        """The run ended in order: what passes from here on is owed no answer.

        It holds until the first part of another run.

        Raises:
            LedgerError: it can't be written.
        """
        self.remember(ENDED, str(self._last_seq))

    @property
    def ended_in_order(self) -> bool:
        """Whether the last run that had a part did."""
        return self.recall(ENDED) is not None

    def last_part(self, camera: str, *, counted: bool = False) -> Ticket | None:
        """The newest part of a camera, or the newest whose trigger the camera counted."""
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT seq, result_id, camera, part_id, frame_id, captured_at, captured_ns,"
                " trigger_count, encoder, device_ns FROM part WHERE camera=?"
                " AND (trigger_count IS NOT NULL OR NOT ?) ORDER BY seq DESC LIMIT 1",
                (camera, counted),
            ).fetchone()
        return None if row is None else _ticket(row)

    def remember(self, name: str, value: str | None) -> None:
        """Keeps a fact over restarts; None forgets it.

        Raises:
            LedgerError: it can't be written.
        """
        with self._transaction() as connection:
            if value is None:
                connection.execute("DELETE FROM fact WHERE name=?", (name,))
            else:
                connection.execute("INSERT OR REPLACE INTO fact VALUES (?,?)", (name, value))

    def recall(self, name: str) -> str | None:
        """A fact that was kept."""
        with self._transaction() as connection:
            row = connection.execute("SELECT value FROM fact WHERE name=?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def checkpoint(self) -> None:
        """Copies the log into the database, without keeping anybody from writing.

        Raises:
            LedgerError: the disk is full or broken; the rows are in the log.
        """
        if self._copier is None:
            raise LedgerError(f"{self.path} is closed")
        try:
            _, log, _ = self._copier.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if log * PAGE_BYTES > MAX_LOG_BYTES:
                # Beside a steady writer there is always something left, and the log never begins
                # anew: the little that is left is copied while nobody writes.
                with self._lock:
                    self._copier.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            raise LedgerError(f"{self.path} can't be written ({error})") from error

    def trim(self, bounds: Bounds, now: datetime) -> Trimmed:
        """Holds the ledger to its bounds, a slice at a time; `now` is UTC.

        A slice is small, so that no part waits long; what is left over is for the next time.
        """
        cuts = [
            Cut(State.DELIVERED, "seq <= (SELECT max(seq) FROM part) - ?", (bounds.rows,)),
            Cut(
                State.BACKLOG,
                "seq <= (SELECT seq FROM part WHERE state=2 AND state<3 ORDER BY seq DESC"
                " LIMIT 1 OFFSET ?)",
                (bounds.undelivered,),
            ),
        ]
        span = [
            (now - timedelta(days=days)).isoformat() for days in (IMPLAUSIBLE_DAYS, bounds.age_days)
        ]
        aged = (  # in front of the first young row, so that young ones aren't looked at
            "captured_at BETWEEN ? AND ? AND seq <"
            " coalesce((SELECT seq FROM part WHERE captured_at > ? ORDER BY seq LIMIT 1), 0)"
        )
        cuts += [Cut(state, aged, (*span, span[1])) for state in (State.DELIVERED, State.BACKLOG)]
        dropped = [(cut.state, self._drop(cut)) for cut in cuts]
        verdicts = sum(count for state, count in dropped if state is State.BACKLOG)
        pictures, more = self._shrink(bounds.bytes)
        return Trimmed(verdicts + more, pictures)

    def _drop(self, cut: Cut) -> int:
        """A slice of the oldest rows of a state; returns how many went."""
        indexed = "" if cut.state is State.DELIVERED else "AND state<3"
        statement = (
            "DELETE FROM part WHERE seq IN (SELECT seq FROM part"  # noqa: S608 - our own
            f" WHERE state=? {indexed} AND {cut.where} ORDER BY seq LIMIT ?)"
        )
        with self._transaction() as connection:
            return connection.execute(statement, (cut.state, *cut.values, SLICE)).rowcount

    def _shrink(self, most: int) -> tuple[int, int]:
        """Brings the bytes in use towards `most`: pictures first, then what was delivered.

        Returns:
            Parts that lost mask and record, and undelivered verdicts that were given up.
        """
        pictures = verdicts = 0
        for _ in range(SLICES):
            if self._bytes_used() <= most:
                break
            stripped = self._strip()
            pictures += stripped
            if not stripped and not self._drop(Cut(State.DELIVERED, "1", ())):
                verdicts += self._drop(Cut(State.BACKLOG, "1", ()))
        return pictures, verdicts

    def _strip(self) -> int:
        """Gives up mask and record of the oldest that wait; returns of how many."""
        with self._transaction() as connection:
            return connection.execute(
                "UPDATE part SET mask=NULL, result=NULL WHERE seq IN (SELECT seq FROM part"
                " WHERE state=2 AND state<3 AND (mask IS NOT NULL OR result IS NOT NULL)"
                " ORDER BY seq LIMIT ?)",
                (SLICE,),
            ).rowcount

    def drop_pictures(self) -> int:
        """Gives the masks and records of all that waits up; returns of how many parts."""
        total = 0
        while (count := self._strip()) > 0:
            total += count
        return total

    def _bytes_used(self) -> int:
        with self._transaction() as connection:
            pages, free, size = (
                int(connection.execute(f"PRAGMA {name}").fetchone()[0])
                for name in ("page_count", "freelist_count", "page_size")
            )
        return (pages - free) * size

    def _claim_it(self) -> None:
        path = self.path.with_suffix(".lock")
        self._claim = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LedgerError(
                f"{self.path} is used by another inspectd; stop that one, or give this station a "
                "name of its own ([station] line and station)"
            ) from None

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        synchronous = "FULL" if self._durability == "full" else "NORMAL"
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > len(MIGRATIONS):
            raise LedgerError(
                f"{self.path} is of version {version}, written by a newer inspectd; install that, "
                "or move the file away: undelivered verdicts in it are lost"
            )
        for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
            connection.executescript(f"BEGIN;{statements};PRAGMA user_version={number};COMMIT;")
        rows = connection.execute(
            "SELECT seq FROM sqlite_sequence WHERE name='part' UNION"
            " SELECT CAST(value AS INTEGER) FROM fact WHERE name=?",
            (ENDED,),
        )
        # numbers that were given without a row, on a full disk, are taken too
        self._last_seq = max((int(row[0]) for row in rows), default=0)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All of a block's statements or none; errors of SQLite become ours."""
        with self._lock:
            if self._connection is None:
                raise LedgerError(f"{self.path} is closed")
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException as error:
                with suppress(sqlite3.Error):
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                if isinstance(error, UNWRITABLE):
                    raise LedgerError(f"{self.path} can't be written ({error})") from error
                raise


@dataclass(frozen=True, slots=True)
class Past:
    """A part as the ledger remembers it."""

    seq: int
    result_id: str
    state: State
    part_id: str
    captured_at: datetime
    """UTC."""
    verdict: str | None
    """JSON; None while the part waits for it."""
    later: str | None
    """JSON: the result that was found after the part had been answered."""


def history(path: Path, limit: int) -> Iterator[Past]:
    """The newest parts of a ledger, newest first; a daemon may be writing it.

    Raises:
        LedgerError: there is no ledger, or it can't be read.
    """
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            rows = connection.execute(
                "SELECT seq, result_id, state, part_id, captured_at, verdict, later FROM part"
                " ORDER BY seq DESC LIMIT ?",
                (limit,),
            )
            for seq, result_id, state, part_id, captured_at, verdict, later in rows:
                at = datetime.fromisoformat(captured_at)
                yield Past(seq, result_id, State(state), part_id, at, verdict, later)
    except sqlite3.Error as error:
        raise LedgerError(
            f"{path} can't be read ({error}); has the station run, and may this user read it?"
        ) from error


def _ticket(row: tuple[object, ...]) -> Ticket:
    seq, result_id, camera, part_id, frame_id, captured_at, captured_ns, *counters = row
    trigger = Trigger(
        str(camera),
        str(part_id),
        int(str(frame_id)),
        datetime.fromisoformat(str(captured_at)),
        int(str(captured_ns)),
        *(None if counter is None else int(str(counter)) for counter in counters),
    )
    return Ticket(int(str(seq)), str(result_id), trigger)

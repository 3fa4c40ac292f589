"""The ledger: a part that is in it is answered once, whatever happens to the daemon."""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import pytest

from inspectd import ledger as module
from inspectd.core.errors import LedgerError
from inspectd.core.records import Ticket, Trigger
from inspectd.ledger import MIGRATIONS, Bounds, Ledger, Letter, State, Trimmed

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger of a test lies."""
    return tmp_path / "deep" / "down" / "line.sqlite3"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    """An open, empty ledger."""
    with Ledger(path) as opened:
        yield opened


def trigger(part_id: str = "part", **more: int) -> Trigger:
    """A trigger with a time of its own."""
    return Trigger("camera", part_id, 1, datetime.now(UTC), 123, **more)


def letter(ticket: Ticket) -> Letter:
    """A decided part's messages."""
    return Letter(ticket.seq, ticket.result_id, "verdict", "result", b"mask", deadline_ns=5)


def bounds(
    rows: int = 10**6, undelivered: int = 10**6, age_days: float = 3649, size: int = 2**40
) -> Bounds:
    """What nothing reaches, but for what a test says."""
    return Bounds(rows, undelivered, age_days, size)


def states(path: Path) -> list[int]:
    """State of every row, in order."""
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT state FROM part ORDER BY seq")]


def test_a_part_goes_from_open_to_delivered(ledger: Ledger, path: Path) -> None:
    """Each step is on disk before the next one."""
    ticket = ledger.open_part(trigger())
    assert states(path) == [State.OPEN]
    ledger.decide(letter(ticket))
    assert states(path) == [State.LIVE]
    assert ledger.postpone([ticket.result_id]) == set()
    assert states(path) == [State.BACKLOG]
    assert ledger.waiting() == 1
    ledger.deliver([ticket.result_id])
    assert states(path) == [State.DELIVERED]
    assert ledger.waiting() == 0


def test_the_backlog_keeps_what_was_written(ledger: Ledger) -> None:
    """A letter comes back as it was, but for its deadline, in order and by portions."""
    tickets = [ledger.open_part(trigger(str(number))) for number in range(5)]
    for ticket in tickets:
        ledger.decide(letter(ticket))
    ledger.postpone([ticket.result_id for ticket in reversed(tickets)])
    first = ledger.backlog(0, 3)
    assert [entry.seq for entry in first] == [1, 2, 3]
    assert first[0] == Letter(1, tickets[0].result_id, "verdict", "result", b"mask", None)
    assert [entry.seq for entry in ledger.backlog(3, 3)] == [4, 5]
    assert ledger.backlog(5, 3) == []


def test_a_decision_is_made_once(ledger: Ledger) -> None:
    """The second decision on a part changes nothing."""
    ticket = ledger.open_part(trigger())
    ledger.decide(letter(ticket))
    ledger.decide(Letter(ticket.seq, ticket.result_id, "another"))
    ledger.postpone([ticket.result_id])
    assert [entry.verdict for entry in ledger.backlog(0, 9)] == ["verdict"]


def test_delivering_drops_what_is_large(ledger: Ledger, path: Path) -> None:
    """Of a delivered part only the verdict stays."""
    ticket = ledger.open_part(trigger())
    ledger.decide(letter(ticket))
    ledger.deliver([ticket.result_id])
    with closing(sqlite3.connect(path)) as connection:
        row = connection.execute("SELECT verdict, result, mask FROM part").fetchone()
    assert row == ("verdict", None, None)


def test_postponing_tells_what_it_has_no_verdict_of(ledger: Ledger) -> None:
    """An open part and an unknown one can't be sent from the ledger later."""
    undecided = ledger.open_part(trigger())
    decided = ledger.open_part(trigger())
    ledger.decide(letter(decided))
    ids = [undecided.result_id, decided.result_id, "unknown"]
    assert ledger.postpone(ids) == {undecided.result_id, "unknown"}


def test_recovery_finds_open_parts_and_what_was_on_its_way(path: Path) -> None:
    """After a death in the middle: open parts come back whole, sent ones become backlog."""
    with Ledger(path) as before:
        opened = before.open_part(trigger("one", trigger_count=7, encoder=8, device_ns=9))
        sent = before.open_part(trigger("two"))
        before.decide(letter(sent))
    with Ledger(path) as after:
        assert after.recover() == [opened]
        assert [entry.result_id for entry in after.backlog(0, 9)] == [sent.result_id]
        assert after.open_part(trigger()).seq == 3


def test_numbers_have_no_gap_over_the_ledgers_life(path: Path) -> None:
    """Not over a restart, and not where the oldest rows are gone."""
    with Ledger(path) as first:
        for _ in range(3):
            first.deliver([first.open_part(trigger()).result_id])
        first.trim(bounds(rows=0, undelivered=0), NOW)
    assert states(path) == []
    with Ledger(path) as second:
        assert second.open_part(trigger()).seq == 4


def test_spare_tickets_take_numbers_that_stay_taken(ledger: Ledger) -> None:
    """A part that had no row on a full disk has a number of its own, also afterwards."""
    seqs = [
        ledger.open_part(trigger()).seq,
        ledger.spare_ticket(trigger()).seq,
        ledger.spare_ticket(trigger()).seq,
        ledger.open_part(trigger()).seq,
    ]
    assert seqs == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "bad", [trigger("\udcff"), trigger(encoder=2**70)], ids=["not Unicode", "beyond 64 bits"]
)
def test_what_cannot_be_stored_is_told(ledger: Ledger, bad: Trigger) -> None:
    """It raises what the line expects, and the ledger serves the next part."""
    with pytest.raises(LedgerError, match="can't be written"):
        ledger.open_part(bad)
    assert ledger.open_part(trigger()).seq == 1


def test_a_full_disk_is_told(ledger: Ledger) -> None:
    """Parts that don't fit raise; once there is room again the numbers go on."""
    connection = ledger._connection
    assert connection is not None
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count={pages + 1}")
    with pytest.raises(LedgerError, match="full"):
        fill(ledger)
    opened = connection.execute("SELECT count(*) FROM part").fetchone()[0]
    assert ledger.spare_ticket(trigger()).seq == opened + 1
    connection.execute(f"PRAGMA max_page_count={pages + 100}")
    assert ledger.open_part(trigger()).seq == opened + 2


def fill(ledger: Ledger) -> None:
    """Opens parts until there is no room."""
    for _ in range(1000):
        ledger.open_part(trigger("x" * 200))


def test_trim_bounds_the_ledger(ledger: Ledger, path: Path) -> None:
    """Delivered rows go beyond their limit; undelivered ones only beyond their own, and counted."""
    tickets = [ledger.open_part(trigger()) for _ in range(10)]
    for ticket in tickets:
        ledger.decide(letter(ticket))
    ledger.deliver([ticket.result_id for ticket in tickets[:6]])
    ledger.postpone([ticket.result_id for ticket in tickets[6:]])
    assert ledger.trim(bounds(rows=7), NOW) == Trimmed(0, 0)
    assert states(path) == [3, 3, 3, 2, 2, 2, 2]
    assert ledger.trim(bounds(rows=7, undelivered=3), NOW) == Trimmed(1, 0)
    assert [entry.seq for entry in ledger.backlog(0, 9)] == [8, 9, 10]


def test_trim_bounds_the_age(ledger: Ledger, path: Path) -> None:
    """Old rows go, delivered or not; one from before the clock was set has no age that counts."""
    ages = [timedelta(days=20_000), timedelta(days=8), timedelta(days=8), timedelta(days=6)]
    tickets = [
        ledger.open_part(replace(trigger(), captured_at=NOW - age)) for age in (*ages, timedelta())
    ]
    for ticket in tickets:
        ledger.decide(letter(ticket))
    ledger.deliver([tickets[1].result_id])
    ledger.postpone([ticket.result_id for ticket in (tickets[0], *tickets[2:])])
    assert ledger.trim(bounds(age_days=7), NOW) == Trimmed(1, 0)
    assert [entry.seq for entry in ledger.backlog(0, 9)] == [1, 4, 5]
    assert states(path) == [2, 2, 2]


def test_trim_bounds_the_size(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks and records of the oldest go first, then delivered rows, then verdicts, counted."""
    monkeypatch.setattr(module, "SLICE", 4)
    tickets = [ledger.open_part(trigger()) for _ in range(40)]
    for ticket in tickets:
        ledger.decide(replace(letter(ticket), mask=bytes(20_000)))
    ledger.postpone([ticket.result_id for ticket in tickets])
    found = ledger.trim(bounds(size=500_000), NOW)
    assert found.verdicts == 0
    assert 0 < found.pictures < 40
    waiting = ledger.backlog(0, 99)
    assert len(waiting) == 40
    assert [entry.mask is None for entry in waiting] == sorted(
        (entry.mask is None for entry in waiting), reverse=True
    )
    found = ledger.trim(bounds(size=30_000), NOW)
    assert found.pictures == sum(entry.mask is not None for entry in waiting)
    assert 0 < found.verdicts < 40
    assert [entry.seq for entry in ledger.backlog(0, 99)][-1] == 40


def test_a_full_disk_costs_pictures_first(ledger: Ledger) -> None:
    """A tight ledger keeps verdicts only, and gives up what waits with its pictures."""
    first, second = (ledger.open_part(trigger()) for _ in range(2))
    ledger.decide(letter(first))
    ledger.postpone([first.result_id])
    ledger.is_tight = True
    assert ledger.drop_pictures() == 1
    ledger.decide(letter(second))
    ledger.postpone([second.result_id])
    waiting = ledger.backlog(0, 9)
    assert [(entry.mask, entry.result) for entry in waiting] == [(None, None)] * 2
    assert all(entry.verdict for entry in waiting)


def test_what_comes_later_is_stored(ledger: Ledger, path: Path) -> None:
    """Beside the verdict, which stays as it was."""
    ticket = ledger.open_part(trigger())
    ledger.decide(letter(ticket))
    ledger.note_later(ticket.result_id, "later")
    with closing(sqlite3.connect(path)) as connection:
        row = connection.execute("SELECT verdict, later FROM part").fetchone()
    assert row == (letter(ticket).verdict, "later")


def test_facts_outlive_a_restart(path: Path) -> None:
    """Until they are forgotten."""
    with Ledger(path) as first:
        assert first.recall("product") is None
        first.remember("product", "bottle")
        first.remember("product", "cap")
    with Ledger(path) as second:
        assert second.recall("product") == "cap"
        second.remember("product", None)
        assert second.recall("product") is None


def test_the_last_part_of_a_camera(ledger: Ledger) -> None:
    """The newest, or the newest that the camera counted; other cameras' don't matter."""
    assert ledger.last_part("camera") is None
    for camera, count in (("camera", 7), ("camera", None), ("other", 9)):
        ledger.open_part(replace(trigger(), camera=camera, trigger_count=count))
    newest, counted = ledger.last_part("camera"), ledger.last_part("camera", counted=True)
    assert newest is not None
    assert counted is not None
    assert (newest.seq, counted.seq) == (2, 1)


def test_a_run_ends_in_order_until_the_next_ones_first_part(path: Path) -> None:
    """Not before: a run that had no part changes nothing. Numbers without a row stay taken."""
    with Ledger(path) as first:
        assert not first.ended_in_order
        first.open_part(trigger())
        first.spare_ticket(trigger())
        first.end_run()
    with Ledger(path) as second:
        assert second.ended_in_order
    with Ledger(path) as third:
        assert third.ended_in_order
        assert third.open_part(trigger()).seq == 3
        assert not third.ended_in_order


def test_somebody_elses_write_does_not_hold_a_part(ledger: Ledger, path: Path) -> None:
    """It goes on without a row, at once."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        started = monotonic()
        with pytest.raises(LedgerError, match="locked"):
            ledger.open_part(trigger())
        assert monotonic() - started < 2.0
        other.execute("ROLLBACK")
    assert ledger.open_part(trigger()).seq == 1


def test_the_log_begins_anew_beside_a_steady_writer(
    ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much is written while it is copied."""
    monkeypatch.setattr(module, "MAX_LOG_BYTES", 200_000)
    log = path.with_name(f"{path.name}-wal")
    copier = ledger._copier
    assert copier is not None
    for _ in range(5):
        for _ in range(300):
            ledger.open_part(trigger())
        copier.execute("PRAGMA wal_checkpoint(PASSIVE)")
        ledger.open_part(trigger())
        ledger.checkpoint()
    assert log.stat().st_size < 8_000_000  # of some 18 that were written


def test_housekeeping_uses_the_index(path: Path, ledger: Ledger) -> None:
    """What waits is found without a look at all that was delivered."""
    with closing(sqlite3.connect(path)) as connection:
        for state in (0, 1, 2):
            query = "EXPLAIN QUERY PLAN SELECT seq FROM part WHERE state=? AND state<3 AND seq>5"
            plan = " ".join(str(row) for row in connection.execute(query, (state,)))
            assert "part_waiting" in plan


def test_the_log_is_copied_beside_writers(ledger: Ledger, path: Path) -> None:
    """The database grows by a checkpoint only, and a writer in the middle doesn't mind."""
    log = path.with_name(f"{path.name}-wal")
    for _ in range(1500):
        ledger.open_part(trigger())
    before, length = path.stat().st_size, log.stat().st_size
    ledger.checkpoint()
    assert path.stat().st_size > before
    for _ in range(200):
        ledger.open_part(trigger())
    ledger.checkpoint()
    assert log.stat().st_size <= length + 4096 * 8  # it begins anew at its front


def test_threads_share_it(ledger: Ledger) -> None:
    """Camera, inspector and publisher write at once; every part has its own number and row."""
    found: list[Ticket] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(50):
                ticket = ledger.open_part(trigger())
                ledger.decide(letter(ticket))
                ledger.postpone([ticket.result_id])
                ledger.backlog(0, 4)
                ledger.deliver([ticket.result_id])
                found.append(ticket)
        except BaseException as error:  # noqa: BLE001 - the test shows it
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(ticket.seq for ticket in found) == list(range(1, 201))
    assert ledger.waiting() == 0


def test_only_its_owner_reads_it(ledger: Ledger, path: Path) -> None:
    """Verdicts are nobody else's business: mode 0600 for every file of it."""
    ledger.open_part(trigger())
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert path.name in modes


def test_a_second_daemon_is_refused(ledger: Ledger, path: Path) -> None:
    """One ledger has one daemon; when that has gone the next one may come."""
    with pytest.raises(LedgerError, match="another inspectd"), Ledger(path):
        pass
    ledger.__exit__(None, None, None)
    with Ledger(path):
        pass


@pytest.mark.parametrize(
    "content", [b"no database at all " * 100, b"SQLite format 3\0" + b"x" * 99]
)
def test_a_damaged_file_is_refused_with_a_remedy(path: Path, content: bytes) -> None:
    """The message names the file and what to do; the file is left as it is."""
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(LedgerError, match="move the damaged file away") as caught, Ledger(path):
        pass
    assert str(path) in str(caught.value)
    assert path.read_bytes() == content


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """As where a file is in the way of the directory."""
    (tmp_path / "state").write_text("a file")
    with (
        pytest.raises(LedgerError, match="can't be opened"),
        Ledger(tmp_path / "state" / "l.sqlite3"),
    ):
        pass


def test_a_newer_version_is_refused(path: Path) -> None:
    """An older program would not know what it breaks."""
    with Ledger(path):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    with pytest.raises(LedgerError, match="newer inspectd"), Ledger(path):
        pass


def test_an_older_version_is_brought_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each migration runs once, and what was in the ledger stays."""
    with Ledger(path) as before:
        before.open_part(trigger("old"))
    addition = "ALTER TABLE part ADD COLUMN note TEXT"
    monkeypatch.setattr(module, "MIGRATIONS", (*MIGRATIONS, addition))
    for _ in range(2):
        with Ledger(path) as after:
            assert [ticket.trigger.part_id for ticket in after.recover()] == ["old"]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS) + 1
        assert connection.execute("SELECT note FROM part").fetchall() == [(None,)]


def test_a_failed_migration_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger is of one version or the next, never between."""
    with Ledger(path):
        pass
    broken = "ALTER TABLE part ADD COLUMN note TEXT; SELECT nonsense FROM nowhere"
    monkeypatch.setattr(module, "MIGRATIONS", (*MIGRATIONS, broken))
    with pytest.raises(LedgerError), Ledger(path):
        pass
    with closing(sqlite3.connect(path)) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(part)")]
        assert "note" not in columns
        assert connection.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS)


USES: dict[str, Callable[[Ledger], object]] = {
    "open_part": lambda ledger: ledger.open_part(trigger()),
    "decide": lambda ledger: ledger.decide(Letter(1, "id", "verdict")),
    "recover": lambda ledger: ledger.recover(),
    "backlog": lambda ledger: ledger.backlog(0, 1),
    "trim": lambda ledger: ledger.trim(bounds(), NOW),
    "checkpoint": lambda ledger: ledger.checkpoint(),
    "remember": lambda ledger: ledger.remember("name", "value"),
    "note_later": lambda ledger: ledger.note_later("id", "result"),
}


@pytest.mark.parametrize("use", USES)
def test_a_closed_ledger_says_so(path: Path, use: str) -> None:
    """A thread that comes too late gets the error that it knows."""
    with Ledger(path) as closed:
        pass
    with pytest.raises(LedgerError, match="closed"):
        USES[use](closed)


def test_full_durability_waits_for_the_disk(path: Path) -> None:
    """`full` asks SQLite for synchronous=FULL, `normal` for NORMAL."""
    for durability, number in (("normal", 1), ("full", 2)):
        with Ledger(path, durability) as opened:
            connection = opened._connection
            assert connection is not None
            assert connection.execute("PRAGMA synchronous").fetchone()[0] == number

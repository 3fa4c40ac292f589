"""Every trigger gets exactly one verdict: the book of parts that wait for theirs.

A part is entered when its trigger has its row in the ledger, and leaves with its one verdict, by
whichever comes first: the inspector with a decision, the timer just before the part's deadline, or
the end of the daemon. The timer is a thread of its own and needs nobody: a dead or stuck inspector
makes parts `undecided`, never silent. What is found out later is stored beside the verdict.

Verdicts leave in the order of the triggers: the inspector takes parts in that order, and a part is
never due before the one in front of it.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass
from time import monotonic_ns, perf_counter_ns
from types import TracebackType
from typing import Protocol, Self

import cv2
import structlog

from inspectd.core.errors import LedgerError
from inspectd.core.records import Decision, Frame, Inspection, MaskArray, Reason, Ticket, Trigger
from inspectd.ledger import Ledger, Letter
from inspectd.pipeline.decide import undecided
from inspectd.pipeline.inspector import Inspector, Timings
from inspectd.publishers.messages import result_message, verdict_message

log = structlog.get_logger()

LEAD_NS = 5_000_000
"""The timer answers so long before the deadline, that the verdict is out when it strikes."""
IDLE_S = 1.0
"""How often the timer looks around when nothing is due."""
END_S = 2.0
"""How long the end waits for a disk that doesn't answer."""
LEAD_SHARE = 10
"""The same, for short deadlines: at most this part of them."""


class Outlet(Protocol):
    """Where letters go; the MQTT publisher is one."""

    def publish(self, letter: Letter) -> None:
        """Sends as soon as possible; never blocks."""
        ...


class Alarm(Protocol):
    """How people are told: a word for the kind, a sentence, and facts beside it."""

    def __call__(self, kind: str, text: str, **facts: object) -> None:
        """Tells them; never blocks."""
        ...


@dataclass(frozen=True, slots=True)
class Setup:
    """What the line runs with; replaced as a whole at a changeover."""

    inspector: Inspector
    deadline_ms: int
    lifetime: ExitStack
    """Closes the runtime when this setup is no longer used."""

    @property
    def product(self) -> str:
        """Product id."""
        return self.inspector.bundle.manifest.product

    @property
    def revision(self) -> str:
        """Product revision."""
        return self.inspector.bundle.manifest.revision


@dataclass(frozen=True, slots=True)
class Part:
    """A trigger that waits for its verdict."""

    ticket: Ticket
    work: Frame | Decision
    """What is to be inspected, or what is known already."""
    setup: Setup
    """The product that was active at its trigger."""
    is_simulated: bool
    deadline_ns: int
    """`time.monotonic_ns()`; 0 where the part is long past."""


class Answers:
    """See the module. Entering starts the timer; leaving ends it."""

    def __init__(self, ledger: Ledger, outlet: Outlet, alarm: Alarm, mask_topic: str) -> None:
        self._ledger = ledger
        self._outlet = outlet
        self._alarm = alarm
        self._mask_topic = mask_topic
        self._waiting: OrderedDict[int, tuple[Part, int]] = OrderedDict()
        """Number of a part to it and the instant at which the timer answers it."""
        self._order = threading.Condition()
        """Held while a verdict is written down and handed over, so that none overtakes another."""
        self._is_over = False
        self._timer = threading.Thread(target=self._run, name="deadlines", daemon=True)
        self._counts: Counter[str] = Counter()
        self.failure: BaseException | None = None
        """What killed the timer, if it died."""

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over = True
        if self._order.acquire(timeout=END_S):  # a disk that hangs may hold it
            self._order.notify()
            self._order.release()
            self._timer.join(END_S)

    @property
    def counts(self) -> dict[str, int]:
        """Verdicts by their word."""
        return dict(self._counts)  # one step of the interpreter; nobody waits for a disk here

    def ticket(self, trigger: Trigger) -> Ticket:
        """Gives a trigger its row; where the ledger can't be written, a number without one."""
        try:
            return self._ledger.open_part(trigger)
        except LedgerError as error:
            self._tell_ledger(error)
            return self._ledger.spare_ticket(trigger)

    def expect(self, part: Part) -> None:
        """From here on the part gets its verdict, whatever happens."""
        lead = min(LEAD_NS, part.setup.deadline_ms * 1_000_000 // LEAD_SHARE)
        with self._order:
            ahead = next(reversed(self._waiting.values()))[1] if self._waiting else 0
            self._waiting[part.ticket.seq] = part, max(ahead, part.deadline_ns - lead)
            if not ahead:
                self._order.notify()

    def expects(self, part: Part) -> bool:
        """Whether the part still waits for its verdict."""
        with self._order:
            return part.ticket.seq in self._waiting

    def answer(self, part: Part, decision: Decision, timings: Timings) -> None:
        """The inspector's word on a part; only stored where the part was answered meanwhile."""
        started = perf_counter_ns()
        mask = None if decision.mask is None else encode_mask(decision.mask)
        timings["encode"] = (perf_counter_ns() - started) / 1e6
        letter = self._letter(part, decision, timings, mask)
        with self._order:
            if self._waiting.pop(part.ticket.seq, None) is not None:
                self._settle(letter, decision)
                return
        log.warning("late_result", part_id=part.ticket.trigger.part_id, **timings)
        try:
            self._ledger.note_later(letter.result_id, letter.result or "")
        except LedgerError as error:
            self._tell_ledger(error)

    def answer_rest(self, decision: Decision) -> None:
        """At the end: all that still waits, in order."""
        with self._order:
            while self._waiting:
                _, (part, _) = self._waiting.popitem(last=False)
                known = decision if isinstance(part.work, Frame) else part.work
                self._settle(self._letter(part, known), known)

    def _run(self) -> None:
        try:
            while not self._is_over:
                late = self._answer_due()
                if late is not None:
                    name, deadline_ms = late.ticket.trigger.part_id, late.setup.deadline_ms
                    text = f"part {name} wasn't decided within {deadline_ms} ms"
                    self._alarm("late_verdict", text)
        except BaseException as error:
            log.error("thread_died", thread="deadlines", exc_info=error)
            self.failure = error

    def _answer_due(self) -> Part | None:
        """Answers the first part if it is due; otherwise waits until it is, or there is one.

        Returns:
            The part, where it was late.
        """
        with self._order:
            if not self._waiting:
                self._order.wait(IDLE_S)
                return None
            seq, (part, due) = next(iter(self._waiting.items()))
            left = (due - monotonic_ns()) / 1e9
            if left > 0:
                self._order.wait(min(left, IDLE_S))
                return None
            decision, is_late = part.work, False
            if isinstance(decision, Frame):
                detail = f"it wasn't decided within {part.setup.deadline_ms} ms"
                decision, is_late = undecided(Reason.LATE, detail), True
            letter = self._letter(part, decision)
            del self._waiting[seq]
            self._settle(letter, decision)
            return part if is_late else None

    def _letter(
        self,
        part: Part,
        decision: Decision,
        timings: Timings | None = None,
        mask: bytes | None = None,
    ) -> Letter:
        """What is to be sent of a part; nothing else of it can fail."""
        ticket, setup = part.ticket, part.setup
        inspection = Inspection(
            ticket, decision, setup.product, setup.revision, timings or {}, part.is_simulated
        )
        return Letter(
            seq=ticket.seq,
            result_id=ticket.result_id,
            verdict=verdict_message(inspection, setup.deadline_ms, self._mask_topic),
            result=result_message(inspection),
            mask=mask,
            deadline_ns=part.deadline_ns,
        )

    def _settle(self, letter: Letter, decision: Decision) -> None:
        """The one place where a part gets its verdict: to the ledger, then on its way."""
        try:
            self._ledger.decide(letter)
        except LedgerError as error:
            self._tell_ledger(error)
        self._outlet.publish(letter)
        self._counts[decision.verdict.value] += 1
        log.debug(
            "part_inspected",
            result_id=letter.result_id,
            verdict=decision.verdict.value,
            reason=decision.reason.value,
            score=decision.score,
        )

    def _tell_ledger(self, error: LedgerError) -> None:
        self._alarm("ledger_failed", str(error))  # logged there, and thinned


def encode_mask(mask: MaskArray) -> bytes:
    """(H, W) mask as PNG, fast rather than small: it is nearly empty."""
    ok, data = cv2.imencode(
        ".png", mask, [cv2.IMWRITE_PNG_BILEVEL, 1, cv2.IMWRITE_PNG_COMPRESSION, 1]
    )
    if not ok:
        raise AssertionError("OpenCV can't encode a (H, W) uint8 array as PNG")
    return bytes(data)

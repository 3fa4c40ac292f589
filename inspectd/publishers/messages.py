"""What is said on the wire: pure functions from an inspection to JSON, under conventions.md.

The verdict stays below 1 KiB whatever name a part has; scores are raw, never clamped; times are
UTC with zone. A name is cut where it is too long, and what isn't Unicode in it (file names may hold
any bytes) becomes a question mark.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC

from inspectd.core.records import Inspection, Ticket

SCHEMA = "inspectd/verdict/1"
RESULT_SCHEMA = "inspectd/result/1"
MAX_VERDICT_BYTES = 1024
MAX_ID_BYTES = 128
"""Of a part id as it stands in JSON."""


@dataclass(frozen=True, slots=True)
class Topics:
    """Where things are published."""

    base: str

    def of(self, *levels: str) -> str:
        """A topic of this station."""
        return "/".join((self.base, *levels))


def verdict_message(inspection: Inspection, deadline_ms: int, mask_base: str) -> str:
    """The `verdict` payload of one part; `mask_base` is the topic in front of ``/<result_id>``."""
    ticket, decision = inspection.ticket, inspection.decision
    return _compact(
        {
            "schema": SCHEMA,
            **_identity(ticket),
            "product_id": inspection.product_id,
            "revision": inspection.revision,
            "verdict": decision.verdict.value,
            "reason": decision.reason.value,
            "score": decision.score,
            "threshold": decision.threshold,
            "margin": decision.margin,
            "deadline_ms": deadline_ms,
            "late": False,
            "is_simulated": inspection.is_simulated,
            "mask_ref": None if decision.mask is None else f"{mask_base}/{ticket.result_id}",
        }
    )


def result_message(inspection: Inspection) -> str:
    """The `result` payload: the full record of one part."""
    decision = inspection.decision
    return _compact(
        {
            "schema": RESULT_SCHEMA,
            **_identity(inspection.ticket),
            "camera": inspection.ticket.trigger.camera,
            "device_ns": inspection.ticket.trigger.device_ns,
            "exposure_us": inspection.ticket.trigger.exposure_us,
            "line_status": inspection.ticket.trigger.line_status,
            "product_id": inspection.product_id,
            "revision": inspection.revision,
            "verdict": decision.verdict.value,
            "reason": decision.reason.value,
            "detail": decision.detail,
            "score": decision.score,
            "threshold": decision.threshold,
            "margin": decision.margin,
            "regions": [asdict(region) for region in decision.regions],
            "timings_ms": {k: round(v, 3) for k, v in inspection.timings_ms.items()},
            "late": False,
            "is_simulated": inspection.is_simulated,
        }
    )


def marked_late(message: str) -> str:
    """The same message with `late` set."""
    return _compact({**json.loads(message), "late": True})


def shortened(name: str, limit: int = MAX_ID_BYTES) -> str:
    """As much of a name as takes `limit` bytes in JSON."""
    fitting = name.encode("utf-8", "replace").decode()
    while len(json.dumps(fitting, ensure_ascii=False).encode()) - 2 > limit:
        fitting = fitting[:-1]
    return fitting


def _identity(ticket: Ticket) -> dict[str, object]:
    trigger = ticket.trigger
    return {
        "result_id": ticket.result_id,
        "seq": ticket.seq,
        "part_id": shortened(trigger.part_id),
        "frame_id": trigger.frame_id,
        "trigger_count": trigger.trigger_count,
        "encoder": trigger.encoder,
        "captured_at": trigger.captured_at.astimezone(UTC).isoformat(timespec="microseconds"),
    }


def _compact(content: dict[str, object]) -> str:
    # allow_nan=False: NaN isn't JSON, and a PLC's parser would stumble over it.
    text = json.dumps(content, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()  # a path in `detail` may not be Unicode

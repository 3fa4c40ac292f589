"""What dies or hangs inside the daemon: its parts are answered, and it helps itself or ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from inspectd.runtimes.simulated import FaultPlan

Make = Callable[..., Any]
RATE = 20


@pytest.fixture
def troubled(make_station: Make, broker: Any, tmp_path: Path) -> Callable[..., Any]:
    """A station whose runtime does what the plan says, with a deadline of 400 ms."""

    def make(**more: Any) -> tuple[Any, FaultPlan]:
        plan = FaultPlan(tmp_path / "plan")
        station = make_station(
            broker,
            parts=4,
            rate=RATE,
            camera={"loop": True},
            **{"runtime": "simulated", "simulation": True, **more},
        )
        station.environment |= plan.environment()
        (station.folder / "products.d").mkdir()
        (station.folder / "products.d" / "tiny.toml").write_text("deadline_ms = 400\n")
        return station, plan

    return make


@pytest.fixture
def paired(
    make_station: Make, broker: Any, collect: Make, tmp_path: Path
) -> Callable[..., tuple[Any, FaultPlan, list[Any]]]:
    """The same with two cameras that share one engine, and what each of them says."""

    def make(**more: Any) -> tuple[Any, FaultPlan, list[Any]]:
        plan = FaultPlan(tmp_path / "plan")
        settings = {"runtime": "simulated", "simulation": True, "batching": {"max_batch": 2}}
        station = make_station(broker, parts=4, rate=RATE, **settings, **more)
        station.environment |= plan.environment()
        camera = {**station.sections.pop("camera"), "loop": True}
        names = ("left", "right")
        station.sections["cameras"] = [{**camera, "name": name} for name in names]
        base = "inspectd/v1/site/area/line/station"
        return station, plan, [collect(broker, base=f"{base}-{name}") for name in names]

    return make


def assert_in_order(verdicts: list[dict[str, Any]]) -> None:
    """`seq` without a gap, each once, in the order of arrival."""
    assert [v["seq"] for v in verdicts] == list(range(1, len(verdicts) + 1))


def test_a_slow_inference_is_answered_in_time(
    troubled: Callable[..., Any], broker: Any, collect: Make
) -> None:
    """Undecided (late) before the deadline; afterwards the line is at once where it was."""
    collector = collect(broker)
    station, plan = troubled()
    station.start()
    collector.wait_verdicts(5)
    plan.delay(1500)
    seen = len(collector.verdicts())
    collector.wait_verdicts(seen + 40)
    plan.delay(0)
    station.wait_log("late_result")
    seen = len(collector.verdicts())
    verdicts = collector.wait_verdicts(seen + 60)  # one more may have begun
    assert_in_order(verdicts)
    reasons = Counter(v["reason"] for v in verdicts if v["verdict"] == "undecided")
    assert reasons["late"] >= 1
    assert set(reasons) <= {"late", "overrun"}
    assert all(v["verdict"] != "undecided" for v in verdicts[-10:])
    assert station.rows("later IS NOT NULL") >= 1
    assert "late_verdict" in {record.json["kind"] for record in collector.records("alarm")}
    assert station.stop() == 0


def test_a_hanging_inference_ends_the_daemon(
    troubled: Callable[..., Any], broker: Any, collect: Make
) -> None:
    """Its parts are answered in time meanwhile; then systemd may start it anew."""
    collector = collect(broker)
    station, plan = troubled(drain_s=1.0)
    station.start()
    collector.wait_verdicts(5)
    plan.hang()
    assert station.wait() == 1
    verdicts = collector.wait_verdicts(station.rows())
    assert_in_order(verdicts)
    assert len(verdicts) > 5 + 5 * RATE
    assert {v["verdict"] for v in verdicts[-20:]} == {"undecided"}
    assert "busy with one part for too long" in station.log_text()
    plan.resume()
    station.start()
    seen = len(collector.verdicts())
    assert collector.wait_verdicts(seen + 10)[-1]["verdict"] != "undecided"
    assert station.stop() == 0


def test_a_hanging_shared_engine_ends_the_daemon(
    paired: Callable[..., tuple[Any, FaultPlan, list[Any]]],
) -> None:
    """Every camera's parts are answered meanwhile, as with an engine of its own."""
    station, plan, heard = paired(drain_s=1.0)
    station.start()
    for collector in heard:
        collector.wait_verdicts(5)
    plan.hang()
    assert station.wait() == 1
    assert "busy with one part for too long" in station.log_text()
    for collector in heard:
        assert_in_order(collector.verdicts())
        assert len(collector.verdicts()) > 5 + 5 * RATE
        assert {v["verdict"] for v in collector.verdicts()[-20:]} == {"undecided"}


def test_another_runtime_takes_over_for_all_that_share(
    paired: Callable[..., tuple[Any, FaultPlan, list[Any]]], wait: Make
) -> None:
    """Each camera goes by itself to the other runtime, and there they share again."""
    station, plan, heard = paired(fallback="onnxruntime")
    station.start()
    for collector in heard:
        collector.wait_verdicts(5)
    plan.fail(10**6)
    station.wait_log("product_changed", 2)
    for collector in heard:
        collector.wait_verdicts(len(collector.verdicts()) + 10)
        wait(lambda collector=collector: collector.verdicts()[-1]["verdict"] != "undecided")
        assert_in_order(collector.verdicts())
        assert collector.records("state")[-1].json["runtime"].startswith("onnxruntime")
    shared = [
        line["lanes"] for line in station.log("engine_shared") if "simu" not in line["runtime"]
    ]
    assert sorted(shared) == [1, 2]
    assert station.stop() == 0


def test_another_runtime_takes_over(
    troubled: Callable[..., Any], broker: Any, collect: Make
) -> None:
    """After some failures in a row, as configured, with an alarm; no part is lost by it."""
    collector = collect(broker)
    station, plan = troubled(fallback="onnxruntime")
    station.start()
    collector.wait_verdicts(5)
    plan.fail(10**6)
    station.wait_log("product_changed")
    seen = len(collector.verdicts())
    verdicts = collector.wait_verdicts(seen + 10)
    assert_in_order(verdicts)
    reasons = Counter(v["reason"] for v in verdicts if v["verdict"] == "undecided")
    assert reasons["inference_failed"] >= 5
    assert verdicts[-1]["verdict"] != "undecided"
    assert not collector.records("state")[-1].json["runtime"].startswith("simulated")
    assert station.stop() == 0


def test_without_another_runtime_the_daemon_ends(
    troubled: Callable[..., Any], broker: Any, collect: Make
) -> None:
    """Every part is answered first, and the status is a failure."""
    collector = collect(broker)
    station, plan = troubled()
    station.start()
    plan.fail(10**6)
    assert station.wait() == 1
    assert_in_order(collector.wait_verdicts(station.rows()))
    assert collector.records("state")[-1].json["state"] == "Error"


def test_a_disk_that_gets_full_costs_pictures_first(
    troubled: Callable[..., Any], broker: Any, collect: Make
) -> None:
    """An alarm, and verdicts as before."""
    collector = collect(broker)
    station, _ = troubled(ledger={"min_free_mib": 10**9})
    station.start()
    station.wait_log("disk_full")
    seen = len(collector.verdicts())
    assert collector.wait_verdicts(seen + 10)[-1]["verdict"] != "undecided"
    broker.kill()
    count = station.rows()
    station.wait_rows(count + 30)
    assert station.rows("state = 2 AND result IS NOT NULL") == 0
    assert station.rows("state = 2 AND verdict IS NOT NULL") > 0
    broker.start()
    assert_in_order(
        sorted(collector.wait_verdicts(station.rows()), key=lambda verdict: verdict["seq"])
    )
    assert station.stop() == 0


def test_sighup_keeps_each_camera_its_product(
    make_station: Make, broker: Any, collect: Make, add_product: Make
) -> None:
    """Also where the file names the cameras in another order."""
    station = make_station(broker, parts=4)
    add_product(station.store, "other")
    camera = station.sections.pop("camera")
    left, right = (
        {**camera, "name": name, "product": product, "loop": True, "rate": 10.0}
        for name, product in (("left", "tiny"), ("right", "other"))
    )
    station.sections["cameras"] = [left, right]
    base = "inspectd/v1/site/area/line/station"
    heard = {name: collect(broker, base=f"{base}-{name}") for name in ("left", "right")}
    station.start()
    station.sections["cameras"] = [right, left]
    station.write_config()
    station.signal(1)
    station.wait_log("product_changed", 2)
    for name, product in (("left", "tiny"), ("right", "other")):
        seen = len(heard[name].verdicts())
        verdicts = heard[name].wait_verdicts(seen + 5)
        assert {v["product_id"] for v in verdicts} == {product}
    assert station.stop() == 0


def test_a_reload_that_fails_is_forgotten(make_station: Make, broker: Any, collect: Make) -> None:
    """The next start takes what ran, if the file does; a wish that can't be met changes nothing."""
    station = make_station(broker, parts=4, camera={"loop": True}, rate=RATE)
    station.start()
    station.sections["product"] = "nonesuch"
    station.write_config()
    station.signal(1)
    assert "nonesuch" in station.wait_log("reload_failed")["detail"]
    collector = collect(broker)
    assert collector.wait_verdicts(3)[-1]["product_id"] == "tiny"
    assert collector.records("state")[-1].json["product_id"] == "tiny"
    assert station.stop() == 0

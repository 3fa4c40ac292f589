"""``deploy/plc/vectors.json``: the gate's rule, held to by Python and by Node-RED's function."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from inspectd.gate import GateKeeper

PLC = Path(__file__).parents[2] / "deploy" / "plc"
TABLE = json.loads((PLC / "vectors.json").read_text(encoding="utf-8"))
CASES = TABLE["cases"]
NOW = datetime.fromisoformat(TABLE["now"])
RUN_NODE = """
const [flow, cases] = JSON.parse(require("fs").readFileSync(0));
const code = flow.find((node) => node.type === "function").func;
// As in Node-RED, a function sees JavaScript's own objects, these, and nothing else of node's.
const script = new (require("vm").Script)(`(function (msg, node, context, env) {${code}\n})`);
const body = script.runInNewContext({ Buffer });
const told = cases.map(({ accepts, messages }) => {
    const kept = {};
    const context = { get: (key) => kept[key], set: (key, value) => { kept[key] = value; } };
    const env = { get: () => accepts };
    const node = { status: () => {} };
    return messages.map((msg) => {
        if (msg.bytes !== undefined) msg.payload = Buffer.from(msg.bytes, "utf-8");
        const [rejects, all] = body(msg, node, context, env);
        const told = all.map(({ payload }) => (payload.rejects ? "!" : "") + payload.why);
        if (rejects.length !== told.filter((word) => word[0] === "!").length) throw "output 1";
        return told;
    });
});
console.log(JSON.stringify(told));
"""


def payload(step: dict[str, Any]) -> str:
    """What is on the wire."""
    if "raw" in step:
        return str(step["raw"])
    if "availability" in step:
        return str(step["availability"])
    age = timedelta(milliseconds=step.get("age_ms", 50))
    message = {
        **TABLE["message"],
        "captured_at": (NOW - age).isoformat(),
        "result_id": f"result-{step['verdict']['seq']}",
        **step["verdict"],
    }
    return json.dumps({k: v for k, v in message.items() if k not in step.get("without", ())})


def wanted(case: dict[str, Any]) -> list[list[str]]:
    """A list of actions for each step."""
    return [step["actions"] for step in case["steps"]]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_gate_keeper(case: dict[str, Any]) -> None:
    """`inspectd gate` does what the table says."""
    keeper = GateKeeper(case.get("accepts_simulated", False))
    told = []
    for step in case["steps"]:
        if "availability" in step:
            action = keeper.availability(payload(step))
            actions = [] if action is None else [action]
        else:
            actions = keeper.verdict(payload(step).encode(), step.get("retained", False), NOW)
        told.append([("!" if action.rejects else "") + action.why for action in actions])
    assert told == wanted(case)


@pytest.fixture(scope="module")
def flow() -> list[dict[str, Any]]:
    """What a controls engineer imports into Node-RED."""
    nodes = json.loads((PLC / "node-red-flow.json").read_text(encoding="utf-8"))
    assert isinstance(nodes, list)
    return nodes


def test_the_flow_is_wired(flow: list[dict[str, Any]]) -> None:
    """Every wire leads to a node; verdicts, availability and a lost broker come in."""
    by_id = {node["id"]: node for node in flow}
    assert len(by_id) == len(flow)
    for node in flow:
        for target in chain.from_iterable(node.get("wires", [])):
            assert target in by_id
        assert {node.get("z", "insp-tab"), *node.get("scope", ())} <= set(by_id)
    inputs = {node["id"]: node for node in flow if node["type"] in ("mqtt in", "status")}
    assert all(node["wires"] == [["insp-gate"]] for node in inputs.values())
    topics = {node["topic"].rpartition("/")[2] for node in inputs.values() if "topic" in node}
    assert topics == {"verdict", "availability"}
    assert set(inputs["insp-link"]["scope"]) == {"insp-availability", "insp-verdict"}


def test_the_flow_holds_the_readable_function(flow: list[dict[str, Any]]) -> None:
    """The function is reviewed as a file; its head says how to put it into the flow again."""
    (function,) = (node for node in flow if node["type"] == "function")
    assert function["func"] == (PLC / "node-red-gate.js").read_text(encoding="utf-8")


def test_the_node_red_function(flow: list[dict[str, Any]]) -> None:
    """The function node does what the table says, run by node as Node-RED would."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node isn't installed: Node-RED's function isn't tested")
    now = NOW.timestamp() * 1000
    cases = [
        {
            "accepts": case.get("accepts_simulated", False),
            "messages": [
                {
                    "topic": "base/availability" if "availability" in step else "base/verdict",
                    "bytes": payload(step),
                    "retain": step.get("retained", False),
                    "now": now,
                }
                for step in case["steps"]
            ],
        }
        for case in CASES
    ]
    lost = {"status": {"fill": "red", "text": "disconnected"}}
    cases.append({"accepts": False, "messages": [cases[0]["messages"][0], lost, lost]})
    result = subprocess.run(
        [node, "-e", RUN_NODE],
        input=json.dumps([flow, cases]),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert told[:-1] == [wanted(case) for case in CASES]
    assert told[-1] == [["available"], ["!unavailable"], []]

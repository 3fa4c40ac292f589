// The gate's rule (inspectd/gate.py) as a Node-RED function node: only a fresh `pass` of a station
// that is online lets a part through.
// Outputs: 1 the rejects, 2 everything that the gate does. Embedded in node-red-flow.json by
//   jq --rawfile f node-red-gate.js '(.[] | select(.type == "function")).func = $f' node-red-flow.json
const ACCEPTS_SIMULATED = env.get("ACCEPTS_SIMULATED") === true;
const REMEMBERED = 100000; // result ids kept to recognise a repeated verdict
const MAX_GAP = 10000; // missing parts counted one by one; a larger jump is another ledger
const MAX_AHEAD_MS = 100; // a verdict that comes longer before its trigger: a clock is wrong
const MAX_BYTES = 64 * 1024;

const state = context.get("state") || { available: false, last: null, seen: new Map() };
context.set("state", state);

function act(rejects, why, verdict) {
    return { topic: rejects ? "reject" : "let through", payload: { rejects, why, verdict: verdict || null } };
}

function parsed(payload) {
    try {
        const bytes = Buffer.from(payload);
        if (bytes.length > MAX_BYTES) return null;
        const text = bytes.toString("utf8"); // Node-RED's functions have no TextDecoder
        if (!Buffer.from(text).equals(bytes)) return null; // not UTF-8
        const m = JSON.parse(text);
        const isWhole =
            m.schema === "inspectd/verdict/1" && Number.isSafeInteger(m.seq) &&
            typeof m.result_id === "string" && ["pass", "fail", "undecided"].includes(m.verdict) &&
            typeof m.late === "boolean" && typeof m.is_simulated === "boolean" &&
            Number.isSafeInteger(m.deadline_ms) && typeof m.captured_at === "string" &&
            /(Z|[+-]\d\d:\d\d)$/.test(m.captured_at) && !Number.isNaN(Date.parse(m.captured_at));
        return isWhole ? m : null;
    } catch (error) {
        return null;
    }
}

function availability(word) {
    const was = state.available;
    state.available = word === "online";
    if (state.available === was) return [];
    return [act(!state.available, state.available ? "available" : "unavailable")];
}

function isRepeated(id) {
    if (state.seen.has(id)) return true;
    state.seen.set(id, true);
    if (state.seen.size > REMEMBERED) state.seen.delete(state.seen.keys().next().value);
    return false;
}

function missing(seq) { // the first verdict sets the count; an old one makes no gap
    const last = state.last === null ? seq - 1 : state.last;
    state.last = Math.max(last, seq);
    return Math.max(0, Math.min(seq - last - 1, MAX_GAP));
}

function verdict(payload, isRetained, now) {
    const m = parsed(payload);
    if (m === null) return [act(true, "malformed")];
    if (isRetained) return [act(false, "retained", m)]; // of a part long gone: moves nothing
    if (isRepeated(m.result_id)) return [act(false, "duplicate", m)]; // moves nothing
    const actions = Array.from({ length: missing(m.seq) }, () => act(true, "gap"));
    // Needs clocks that agree; a gate whose clock is ahead rejects too much, never too little.
    const age = now - Date.parse(m.captured_at);
    if (m.late || age > m.deadline_ms) actions.push(act(true, "late", m));
    else if (age < -MAX_AHEAD_MS) actions.push(act(true, "clock", m)); // the station's clock is wrong
    else if (!state.available) actions.push(act(true, "unavailable", m));
    else if (m.is_simulated && !ACCEPTS_SIMULATED) actions.push(act(true, "simulated", m));
    else actions.push(act(m.verdict !== "pass", m.verdict, m));
    return actions;
}

let actions = [];
if (msg.status) { // of the MQTT nodes: the broker is gone
    if (msg.status.fill !== "green") actions = availability("offline");
} else if (String(msg.topic).endsWith("/availability")) {
    actions = availability(Buffer.from(msg.payload).toString());
} else if (String(msg.topic).endsWith("/verdict")) {
    actions = verdict(msg.payload, msg.retain === true, msg.now || Date.now());
}
const last = actions[actions.length - 1];
if (last) node.status({ fill: last.payload.rejects ? "red" : "green", shape: "dot", text: last.payload.why });
return [actions.filter((action) => action.payload.rejects), actions];

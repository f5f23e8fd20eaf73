/** What each agent does, as a lane of states over time. The notebook's `panels/agents.py` counts by the same rules. */

import { Gaps } from "./binned.js";

/** A call is told of when it ends; until then it is only known that there is one. */
export const AGENT_STATES = [
  { name: "idle", color: "#A9B1BA", size: 0.2 },
  { name: "in a call", color: "#9FC9E6" },
  { name: "LLM", color: "#0072B2" },
  { name: "tool", color: "#009E73" },
  { name: "waiting", color: "#E69F00" },
  { name: "error", color: "#D55E00" },
];

const UNKNOWN = -1;
const [IDLE, BUSY, LLM, TOOL, WAITING, ERROR] = AGENT_STATES.keys();
const MAX_LANES = 40; // more do not fit on a screen, and are named only
const MAX_NAMES = 10 * MAX_LANES;
const STEPS = 600; // a lane tells states apart that are at least so small a part of the window: about a pixel
const ROLES = ["planner", "developer", "tester", "reviewer"];

/** One agent. A mark [time, state, version] says from when on it is in which state, and since when that is known. */
class Lane {
  constructor(key, simulation, agentId, role) {
    this.key = key;
    this.agentId = agentId;
    this.simulation = simulation;
    const rank = ROLES.indexOf(role);
    const parts = agentId.split(/([0-9]+)/).map((part, n) => (n % 2 ? Number(part) : part));
    this.order = [rank < 0 ? ROLES.length : rank, role, ...parts];
    this.marks = [];
    this.runs = new Set();
    this.event = 0; // of its newest event: in the time of events
    this.axis = 0; // and on the axis
    this.isLost = true; // whether what it did since then was hidden by a gap, or it is new
  }
}

function compare(a, b) {
  for (let n = 0; n < Math.max(a.order.length, b.order.length); n += 1) {
    const [one, other] = [a.order[n], b.order[n]];
    if (one === other) continue;
    if (one === undefined || other === undefined) return one === undefined ? -1 : 1;
    return one < other ? -1 : 1;
  }
  const [one, other] = [a.simulation ?? "", b.simulation ?? ""];
  return one < other ? -1 : Number(one > other);
}

/** Lanes of states; the newest `windowS` seconds of them. `lanes` are their names, then those of agents without room. */
export class AgentLanes {
  types = ["agent_started", "agent_activity", "agent_completed", "agent_error"];

  constructor({ windowS = 60 } = {}) {
    this.lanes = [];
    this.version = 0;
    this.windowS = windowS;
    this.binS = windowS / STEPS;
    this.holes = new Gaps();
    this.byAgent = new Map();
    this.sorted = [];
    this.beyond = new Map(); // agents for whom there is no room, with their ids
    this.newest = undefined; // the newest event's simulation
    this.pace = 0; // seconds on the axis for one of the events', as of the newest that tell
  }

  get gaps() {
    return this.holes.list;
  }

  /** A run begins or ends, or a call has ended; a call reaches back by its duration. */
  see(event, time) {
    this.prove(time);
    const { type, data, simulation } = event;
    this.newest = simulation;
    const lane = this.lane(simulation, data.agent_id, data.role);
    if (!lane) return;
    const at = Math.max(time, lane.axis);
    if (type === "agent_activity") this.call(lane, this.startOf(lane, event, at), kindOf(data));
    if (type === "agent_started" || type === "agent_activity") lane.runs.add(data.run_id);
    else lane.runs.delete(data.run_id);
    this.mark(lane, at, lane.runs.size ? BUSY : IDLE);
    [lane.event, lane.axis, lane.isLost] = [event.time, at, false];
  }

  prove(time) {
    if (this.holes.prove(time)) this.version += 1;
  }

  /** Time goes on: what has left the window is forgotten, and so are agents that are no more: see `agents.py`. */
  advance(now) {
    const horizon = now - this.windowS - 1;
    const lanes = [...this.byAgent.values()];
    const heard = new Set(lanes.filter(({ axis }) => axis > horizon).map(({ simulation }) => simulation));
    heard.add(this.newest).add(undefined); // a real agent may think for longer
    for (const lane of lanes) {
      const { marks } = lane;
      let gone = 0;
      while (gone + 1 < marks.length && marks[gone + 1][0] <= horizon) gone += 1;
      if (gone) marks.splice(0, gone);
      const [time, state] = marks.at(-1);
      if ((state === UNKNOWN && time <= horizon) || !heard.has(lane.simulation)) {
        this.byAgent.delete(lane.key);
        this.beyond.clear();
        this.sort();
      }
    }
  }

  /** Something was lost after the newest event and before `now`: from there on nothing is known of anybody. */
  gap(now, label) {
    const from = this.holes.add(now, label);
    this.version += 1;
    this.loseAll(from);
  }

  /** The log begins anew with the next event: there is no agent any more. */
  begin() {
    if (!Number.isNaN(this.holes.proven)) this.loseAll(this.holes.proven);
    this.beyond.clear();
  }

  clear() {
    this.version += 1;
    this.holes.clear();
    this.byAgent.clear();
    this.beyond.clear();
    this.sort();
  }

  /** Marks that changed after a version, by time: the time, the lane, and its state from then on (-1: unknown). */
  rows(since = 0) {
    const changed = [];
    this.sorted.forEach((lane, number) => {
      for (const [time, state, version] of lane.marks) if (version > since) changed.push([time, number, state]);
    });
    changed.sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]);
    return new Float64Array(changed.flat());
  }

  lane(simulation, agentId, role) {
    const key = `${agentId} ${simulation ?? ""}`;
    let lane = this.byAgent.get(key);
    if (!lane && this.byAgent.size < MAX_LANES) {
      lane = new Lane(key, simulation, agentId, role);
      this.byAgent.set(key, lane);
      this.beyond.delete(key);
      this.sort();
    } else if (!lane && !this.beyond.has(key) && this.beyond.size < MAX_NAMES - MAX_LANES) {
      this.beyond.set(key, agentId);
      this.sort();
    }
    return lane;
  }

  sort() {
    this.sorted = [...this.byAgent.values()].sort(compare);
    const counts = new Map();
    for (const { agentId } of this.sorted) counts.set(agentId, (counts.get(agentId) ?? 0) + 1);
    this.lanes = this.sorted.map(({ agentId, simulation }) =>
      counts.get(agentId) === 1 ? agentId : `${agentId} (${(simulation ?? "real").slice(-4)})`,
    );
    this.lanes.push(...this.beyond.values());
    this.version += 1;
  }

  /** Where on the axis the call began that ends with this event. */
  startOf(lane, { time: eventTime, simulation, data }, time) {
    const passed = eventTime - lane.event;
    let pace = 0;
    if (lane.isLost) pace = this.pace || Number(simulation === undefined); // nothing to measure by but what others showed
    else if (passed > 0) pace = this.pace = (time - lane.axis) / passed;
    const start = time - (data.duration_s || 0) * pace;
    return lane.isLost ? start : Math.max(start, lane.axis);
  }

  /** A call of a kind began at `start`, and ends now. */
  call(lane, start, kind) {
    const last = lane.marks.at(-1);
    if (last?.[1] === BUSY) {
      const hasWaited = start - last[0] > this.binS;
      last[1] = hasWaited ? WAITING : kind; // told at last
      last[2] = this.next();
      if (!hasWaited) return;
    }
    this.mark(lane, start, kind);
  }

  /** From a time on the lane is in a state. */
  mark(lane, time, state) {
    const last = lane.marks.at(-1);
    if (last?.[1] === state) return;
    if (last && time - last[0] < this.binS) [last[1], last[2]] = [state, this.next()]; // too short to be seen
    else lane.marks.push([time, state, this.next()]);
  }

  loseAll(time) {
    for (const lane of this.byAgent.values()) {
      this.mark(lane, time, UNKNOWN);
      lane.isLost = true;
      lane.runs.clear();
    }
  }

  next() {
    this.version += 1;
    return this.version;
  }
}

function kindOf(call) {
  if (call.status === "error") return ERROR;
  return "gen_ai.tool.name" in call || call["gen_ai.operation.name"] === "execute_tool" ? TOOL : LLM;
}

/** The page of one project: one stream, counted by the panels' models and drawn at a fixed rate, however many events come. */

import { makeCharts } from "../panels/catalogue.js";
import { ApprovalInbox } from "../panels/inbox.js";
import { Ledger } from "../panels/ledger.js";
import { EventLog, indented, tell } from "../panels/log.js";
import { sightingOf } from "../panels/sighting.js";
import { Timeline } from "../panels/timeline.js";
import { createView as createApprovals } from "../views/approvals.js";
import { createView as createChat } from "../views/chat.js";
import { createView as createConnection } from "../views/connection.js";
import { createView as createControl } from "../views/control.js";
import { createView as createDebug } from "../views/debug.js";
import { setText } from "../views/frame.js";
import { createView as createLog } from "../views/log.js";
import { ChartPanel } from "./chart-panel.js";
import { Chat } from "./chat.js";
import { ask } from "./http.js";
import { Runs } from "./runs.js";
import { openStream } from "./stream.js";
import { count, duration, plural } from "./words.js";

const REPLAY = 2000; // entries to begin with, so that the charts are not empty
const WINDOW_S = { wall: 60, simulated: 3600 }; // a bar a second is wide enough to be read; at speed 60 both show as much
const KEPT = 10_000; // events from which the charts are counted again when the axis is changed; as many as the log has
const DRAW_EVERY_MS = 250; // a redraw costs some milliseconds, and four a second look live
const TELL_EVERY_MS = 500; // numbers cannot be read faster
const ASK_EVERY_MS = 2000; // the server, what waits for a decision
const MAX_NEW = 60; // lines added to the log at once; how many were left out is said
const MAX_LINES = 200;
const MAX_APPROVALS = 50;
const RATE_S = 10;
const FAULT_MIN = 30; // simulated minutes, long enough to see what it does

const STATES = {
  connecting: ["connecting", "warn"],
  open: ["live", "good"],
  waiting: ["reconnecting", "warn"],
  asleep: ["asleep", "muted"],
  closed: ["disconnected", "bad"],
};
const REASONS = {
  trimmed: "the server kept less than was missed",
  slow: "this page was too slow",
  epoch: "the log began anew",
};
const SPEEDS = ["1", "10", "60", "600", "max"].map((speed) => [speed, speed === "max" ? "as fast as it goes" : `${speed} × real time`]);
const FAULTS = ["ci_outage", "provider_brownout", "incident_storm"].map((kind) => [kind, kind.replace("_", " ").replace("ci ", "CI ")]);
const ENTITIES = ["project", "queues", "agents", "agent_runs", "issues", "prs", "pipelines", "approvals", "sprints", "faults"];

const project = decodeURIComponent(location.pathname.split("/").pop());
const base = `../projects/${encodeURIComponent(project)}`;
const $ = (id) => document.getElementById(id);
document.title = `${project} · Syndarix RT`;
$("project").textContent = project;

const types = await (await fetch(new URL("../types.json", import.meta.url))).json();
const colors = new Map(types.map(({ name, color }) => [name, color]));
const categories = new Map(types.filter(({ category }) => category).map(({ name, category }) => [name, category]));

// ---- what counts ---------------------------------------------------------------------------------------------------

const inbox = new ApprovalInbox();
const log = new EventLog(categories);
const ledger = new Ledger();
const published = new Timeline([inbox, log]); // what is listed stands at its time of publication
const kept = []; // what came, oldest first: {event, offset, now}, or of a gap {label, now}
let charted; // the timeline of the charts, whose axis can be changed
let drawn = []; // the charts
let newest; // of the events of simulations, the one that came last
const recent = new Map(); // events by the second of their publication, for the rate
let state = "connecting";
let reason = "";
let epoch = "";
let position = 0;

const stream = openStream(base, {
  names: [...categories.keys()],
  replay: REPLAY,
  onOpen(info) {
    ledger.open(info.resumed);
    epoch = info.epoch;
    position = Math.max(info.resumed ? position : 0, info.last);
    inbox.isUncertain = true;
  },
  onEvent(raw, id, isLive) {
    const now = Date.now() / 1000;
    const event = sightingOf(raw);
    const dot = id.indexOf(".");
    const offset = Number(id.slice(dot + 1));
    epoch = id.slice(0, dot);
    position = Math.max(position, offset);
    const at = Math.min(event.recorded ?? event.time, now);
    ledger.event(isLive ? now - at : undefined); // of history, a delay says nothing
    countRecent(at);
    published.add(event, offset, now);
    if (event.simulation) newest = event;
    keep({ event, offset, now });
  },
  onGap(gap) {
    const now = Date.now() / 1000;
    if (gap.reason === "epoch") position = gap.last; // where another history stands
    ledger.gap(now, gap);
    const label = gap.missed === null ? "gap: unknown" : `gap: ${count(gap.missed)} missed`;
    published.gap(now, label);
    keep({ label, now });
  },
  onLost() {
    ledger.holes += 1;
  },
  onState(now, why) {
    [state, reason] = [now, why];
    tellConnection();
  },
});

function countRecent(at) {
  const second = Math.floor(at);
  recent.set(second, (recent.get(second) ?? 0) + 1);
}

/** Events per second over the last whole seconds. */
function recentRate(now) {
  const until = Math.floor(now);
  let sum = 0;
  for (const [second, events] of recent) {
    if (second < until - RATE_S) recent.delete(second);
    else if (second < until) sum += events;
  }
  return sum / RATE_S;
}

// ---- charts --------------------------------------------------------------------------------------------------------

const axis = $("axis");
if (location.hash === "#simulated") axis.value = "simulated";

/** Charts that have counted all that is kept, on the axis that is chosen. */
function chart() {
  const isSimulated = axis.value === "simulated";
  const charts = makeCharts(types, { isSimulated, windowS: WINDOW_S[axis.value] });
  charted = new Timeline([...charts.values()].map(({ model }) => model), { isSimulated });
  for (const item of kept) recount(item);
  for (const panel of drawn) panel.destroy();
  drawn = [...charts].map(([name, made]) => new ChartPanel($(name), made));
  draw();
}

function keep(item) {
  recount(item);
  kept.push(item);
  if (kept.length >= 2 * KEPT) kept.splice(0, KEPT); // one by one would move them all each time
}

function recount({ event, offset, label, now }) {
  if (event) charted.add(event, offset, now);
  else charted.gap(now, label);
}

function draw() {
  const now = Date.now() / 1000;
  if (state === "open" && !stream.behind()) for (const timeline of [published, charted]) timeline.advance(now);
  const end = charted.now(now);
  if (!document.hidden && !Number.isNaN(end)) for (const panel of drawn) panel.push(end);
}

chart();
axis.addEventListener("change", () => {
  history.replaceState(null, "", axis.value === "wall" ? location.pathname : `#${axis.value}`); // a link shows what its sender saw
  chart();
});

// ---- the connection ------------------------------------------------------------------------------------------------

const connection = createConnection($("stream"), { title: "Connection" });

function tellConnection() {
  const [word] = STATES[state];
  $("connection").dataset.state = state;
  setText($("connection"), reason ? `${word}: ${reason}` : word);
}

/** The bound of a share of the delays, in words. */
function delay(share, sign = "") {
  const bound = ledger.delayMs(share);
  if (bound === null) return "not yet";
  return bound === Infinity ? "over 60 s" : `${sign}${bound} ms`;
}

function tellFigures() {
  const behind = stream.behind();
  $("received").textContent = count(ledger.events);
  $("rate").textContent = recentRate(Date.now() / 1000).toFixed(1);
  $("position").textContent = epoch ? count(position) : "–";
  $("position").title = epoch ? `${epoch}.${position}` : "";
  $("gaps").textContent = count(ledger.gaps);
  const [word, level] = STATES[state];
  connection.receive({
    word,
    level,
    reason,
    advice: state === "waiting" ? "It tries again by itself and goes on where it was; nothing is lost while the server keeps it." : "",
    position: epoch ? `${epoch}.${count(position)}` : "no position yet",
    figures: [
      ["median delay", delay(0.5, "≤ "), ""],
      ["95 % within", delay(0.95), ""],
      ["behind", behind ? plural(behind, "event") : "no", behind ? "warn" : "good"],
      ["reconnects", count(Math.max(0, ledger.connections - 1)), ""],
      ["resumed exactly", count(ledger.resumed), ""],
      ["gaps", count(ledger.gaps), ledger.gaps ? "warn" : "good"],
      ["undeclared holes", count(ledger.holes), ledger.holes ? "bad" : "good"],
      ["kept here", count(Math.min(log.version, log.capacity)), ""],
    ],
    gaps: ledger.newestGaps.map(({ time, reason: why, missed }) => {
      const size = missed === null ? "an unknown number of events" : plural(missed, "event");
      return `${new Date(time * 1000).toLocaleTimeString("en-GB")} ${size} missed: ${REASONS[why] ?? why}`;
    }),
  });
}

// ---- approvals -----------------------------------------------------------------------------------------------------

const approvals = createApprovals($("approvals"), { title: "Approvals" }, ({ approval, decision }) => decide(approval, decision));
let asked = -Infinity;

async function decide(id, decision) {
  inbox.decide(id, decision);
  let error = "the server cannot be reached; try again";
  try {
    const answer = await ask(`${base}/approvals/${encodeURIComponent(id)}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ decision, by: "web page" }),
    });
    if (answer.ok) return; // the event that follows takes it from the list
    error = (await answer.json()).detail ?? `the server answers ${answer.status}`;
  } catch {
    // No connection, or no JSON.
  }
  inbox.decide(id, "", error);
  tellApprovals();
}

async function askWhatWaits() {
  if (!inbox.isUncertain || state !== "open" || performance.now() - asked < ASK_EVERY_MS) return;
  asked = performance.now();
  const question = inbox.ask();
  try {
    const answer = await ask(`${base}/approvals`);
    if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
    inbox.correct(question, (await answer.json()).approvals);
  } catch {
    inbox.isUncertain = true; // asked again
  }
}

function tellApprovals() {
  const pending = [...inbox.pending.values()];
  approvals.receive({
    uncertain: inbox.isUncertain,
    count: pending.length,
    pending: pending.slice(0, MAX_APPROVALS).map((waiting) => {
      const isSimulated = waiting.simulation && !Number.isNaN(published.eventTime);
      const now = isSimulated ? published.eventTime : Date.now() / 1000;
      return {
        ...waiting,
        since: `${new Date(waiting.since * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`,
        waited: `${duration(now - waiting.since)}${isSimulated ? " of simulated time" : ""}`,
      };
    }),
  });
}

// ---- the log -------------------------------------------------------------------------------------------------------

const lines = createLog($("log"), { title: "Event log", simulated: false, rows: MAX_LINES }, (message) => {
  if (message.op === "details") {
    const line = log.find(message.number);
    const text = line ? indented(line) : "It is too old to be kept here.";
    lines.receive({ op: "details", number: message.number, text });
  } else {
    wanted = { type: message.type, text: message.text };
    tellLog(true);
  }
});
let wanted = { type: "", text: "" };
let toldLines = 0;
let toldFilters = "";

function tellLog(isWhole = false) {
  if (!isWhole && log.version === toldLines) return;
  const found = log.matching(wanted, isWhole ? MAX_LINES : MAX_NEW, isWhole ? 0 : toldLines);
  toldLines = log.version;
  const { filters } = log;
  const news = { op: isWhole ? "reset" : "news", total: log.version, skipped: isWhole ? 0 : found.skipped };
  if (isWhole || String(filters) !== toldFilters) {
    toldFilters = String(filters);
    Object.assign(news, { filters, type: wanted.type, text: wanted.text });
  }
  news.lines = found.lines.map((line) => {
    const color = line.type ? (colors.get(line.type) ?? types.at(-1).color) : "";
    return [line.number, line.time, line.type, color, ...tell(line)];
  });
  lines.receive(news);
}

// ---- the run -------------------------------------------------------------------------------------------------------

const METHODS = { pause: "run.pause", resume: "run.resume", step: "run.step", set_speed: "run.setSpeed", inject: "run.inject" };
const control = createControl($("control"), { title: "Run", scenarios: [], speeds: SPEEDS, faults: FAULTS, faultMin: FAULT_MIN }, steer);
const debug = createDebug($("debug"), { title: "Debug", entities: ENTITIES }, look);
const runs = new Runs(base, tellRun);
let doing = "";
let refused = "";
let seen = { text: "", error: "" };

async function steer({ op, value }) {
  const number = Number(value);
  const params = {
    step: { events: value },
    set_speed: { speed: value === "max" ? value : number },
    inject: { fault: { kind: value, minutes: FAULT_MIN } },
  }[op];
  [doing, refused] = [op, ""];
  tellRun();
  try {
    await runs.call(METHODS[op], params);
  } catch (error) {
    refused = error.message;
  }
  doing = "";
  tellRun();
}

async function look({ op, type, where, entity }) {
  try {
    if (op === "inspect") {
      seen = { text: JSON.stringify(await runs.call("run.inspect", { entity }), null, 2), error: "" };
    } else {
      const added = op === "break" && (type || where) ? [{ ...(type && { type }), ...(where && { where }) }] : [];
      const breakpoints = op === "clear" ? [] : [...(runs.state?.breakpoints ?? []), ...added];
      await runs.call("run.setBreakpoints", { breakpoints });
      seen = { text: "", error: "" };
    }
  } catch (error) {
    seen = { text: "", error: error.message };
  }
  tellRun();
}

/** How far a run is: as it said last, or as its events say since then. */
function timeOf({ time, simulation }) {
  const isLater = simulation && newest?.simulation === simulation && newest.time > Date.parse(time) / 1000;
  return isLater ? new Date(newest.time * 1000).toISOString() : time;
}

function tellRun() {
  const { state: run } = runs;
  $("control").hidden = $("debug").hidden = !run;
  if (!run) return;
  const stands = run.state === "paused";
  const stop = run.stopped?.event ? ` at a breakpoint (${run.stopped.event.type})` : "";
  const speed = run.speed === "max" ? ", as fast as it goes" : run.speed ? `, speed ${run.speed}` : "";
  const time = run.time ? `, ${timeOf(run).slice(0, 19).replace("T", " ")} of simulated time` : "";
  const status = `${run.name || run.run}: ${run.state}${stop}${speed}${time}`;
  const abilities = [stands ? "resume" : "pause", "step", "set_speed", ...(run.simulation ? ["inject"] : [])];
  control.receive({ status, playing: true, abilities, doing, error: refused });
  debug.receive({ status: stop ? `stopped${stop}` : "", breakpoints: run.breakpoints ?? [], ...seen });
}

// ---- chat ----------------------------------------------------------------------------------------------------------

const chatView = createChat($("chat"), { title: "Chat" }, ({ op, text, to }) => (op === "say" ? chat.say(text, to) : chat.typing()));
let isChatTold = false;
const chat = new Chat(base, () => (isChatTold = false));

// ---- time goes on --------------------------------------------------------------------------------------------------

function tellAll() {
  askWhatWaits();
  if (document.hidden) return;
  tellFigures();
  tellApprovals();
  tellRun();
  tellLog();
  if (!isChatTold) chatView.receive(chat.content);
  isChatTold = true;
}

tellAll();
setInterval(draw, DRAW_EVERY_MS);
setInterval(tellAll, TELL_EVERY_MS);

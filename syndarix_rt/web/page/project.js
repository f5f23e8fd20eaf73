/** The page of one project: one stream, counted by the panels' models and drawn at a fixed rate, however many events come. */

import { ApprovalInbox } from "../panels/inbox.js";
import { Ledger } from "../panels/ledger.js";
import { EventLog, indented, tell } from "../panels/log.js";
import { sightingOf } from "../panels/sighting.js";
import { Timeline } from "../panels/timeline.js";
import { createView as createChat } from "../views/chat.js";
import { createView as createConnection } from "../views/connection.js";
import { setText } from "../views/frame.js";
import { createView as createLog } from "../views/log.js";
import { Approvals } from "./approvals.js";
import { Charts } from "./charts.js";
import { Chat } from "./chat.js";
import { Steering } from "./steering.js";
import { openStream } from "./stream.js";
import { count, plural } from "./words.js";

const REPLAY = 2000; // entries to begin with, so that the charts are not empty
const DRAW_EVERY_MS = 250; // a redraw costs some milliseconds, and four a second look live
const TELL_EVERY_MS = 500; // numbers cannot be read faster
const MAX_NEW = 60; // lines added to the log at once; how many were left out is said
const MAX_LINES = 200;
const RATE_S = 10;

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
const charts = new Charts(types, $("axis"));
const approvals = new Approvals($("approvals"), base, inbox);
const steering = new Steering($("control"), $("debug"), base);
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
    charts.add({ event, offset, now });
    if (event.simulation) steering.newest = event;
  },
  onGap(gap) {
    const now = Date.now() / 1000;
    if (gap.reason === "epoch") position = gap.last; // where another history stands
    ledger.gap(now, gap);
    const label = gap.missed === null ? "gap: unknown" : `gap: ${count(gap.missed)} missed`;
    published.gap(now, label);
    charts.add({ label, now });
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

/** Let time go on, as far as the stream proves it, and draw. */
function draw() {
  const now = Date.now() / 1000;
  if (state === "open" && !stream.behind()) for (const timeline of [published, charts.timeline]) timeline.advance(now);
  charts.draw();
}

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

// ---- chat ----------------------------------------------------------------------------------------------------------

const chatView = createChat($("chat"), { title: "Chat" }, ({ op, text, to }) => (op === "say" ? chat.say(text, to) : chat.typing()));
let isChatTold = false;
const chat = new Chat(base, () => (isChatTold = false));

// ---- time goes on --------------------------------------------------------------------------------------------------

function tellAll() {
  if (state === "open") approvals.ask();
  if (document.hidden) return;
  tellFigures();
  approvals.tell(published.eventTime);
  steering.tell();
  tellLog();
  if (!isChatTold) chatView.receive(chat.content);
  isChatTold = true;
}

tellAll();
setInterval(draw, DRAW_EVERY_MS);
setInterval(tellAll, TELL_EVERY_MS);

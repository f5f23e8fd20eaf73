/** The page of one project: its stream, drawn and listed as it comes. What events say is shown as text, never as HTML. */

import { createChart } from "./chart.js";
import { EventRate } from "./rates.js";
import { openStream } from "./stream.js";

const REPLAY = 1000; // entries to begin with, so that the chart is not empty
const RENDER_EVERY_MS = 250; // however many events come
const LOG_ROWS = 200;
const RATE_S = 10;
const DATA_CHARACTERS = 300; // of an event's data in the log; the rest is cut off by the window anyway

const COMMON = ["role", "issue_id", "branch", "run_id"]; // what the events of a run have in common is told last

const project = decodeURIComponent(location.pathname.split("/").pop());
const base = `../projects/${encodeURIComponent(project)}`;
const $ = (id) => document.getElementById(id);
const count = new Intl.NumberFormat("en");

document.title = `${project} · Syndarix RT`;
$("project").textContent = project;

const types = await (await fetch(new URL("types.json", import.meta.url))).json();
const colors = new Map(types.map(({ name, color }) => [name, color]));
const ranks = new Map(types.map(({ name }, rank) => [name, rank]));
const rates = new EventRate(types.map(({ name }) => name));
const chart = createChart($("chart"), {
  title: "Events by type",
  kind: "bars",
  unit: "events/s",
  series: types,
  empty: "No event yet",
});

let open = false;
let received = 0;
let gaps = 0;
let epoch = "";
let position = 0;
let changed = true;
let fresh = []; // log entries that are not shown yet
const counts = new Map(); // type -> {cell, events}
const recent = []; // [second, events], for the rate

openStream(base, {
  names: types.filter(({ category }) => category).map(({ name }) => name),
  replay: REPLAY,
  onOpen(info) {
    epoch = info.epoch;
    position = Math.max(info.resumed ? position : 0, info.last);
  },
  onEvent(event, id) {
    received += 1;
    const [itsEpoch, offset] = id.split(".");
    epoch = itsEpoch;
    position = Math.max(position, Number(offset));
    // Nothing is published after it came, whatever the publisher's clock says.
    const published = Math.min(Date.parse(event.recordedtime ?? event.time), Date.now()) / 1000;
    rates.add(event.type, published);
    countRecent(published);
    const line = counts.get(event.type) ?? addCount(event.type);
    line.events += 1;
    fresh.push({ published, type: event.type, text: told(event.data) });
    if (fresh.length > LOG_ROWS) fresh.shift();
    changed = true;
  },
  onGap({ reason, missed, last }) {
    gaps += 1;
    if (reason === "epoch") position = last; // where another history stands
    const now = Date.now() / 1000;
    const size = missed === null ? "an unknown number of" : count.format(missed);
    rates.gap(now, `gap: ${missed === null ? "unknown" : `${count.format(missed)} missed`}`);
    fresh.push({ published: now, gap: `gap (${reason}): ${size} events are missing here` });
    changed = true;
  },
  onState(state, reason) {
    open = state === "open";
    const words = { connecting: "connecting", open: "live", waiting: "reconnecting", closed: "disconnected" };
    $("connection").dataset.state = state;
    $("connection").textContent = reason ? `${words[state]}: ${reason}` : words[state];
    changed = true;
  },
});

setInterval(() => {
  const now = Date.now() / 1000;
  if (open) rates.advance(now);
  chart.push(rates.take(), now);
  for (const { from, to, label } of rates.gaps) chart.gap(from, to, label);
  if (document.hidden) return;
  $("rate").textContent = recentRate(now).toFixed(1);
  if (changed) render();
}, RENDER_EVERY_MS);

function render() {
  changed = false;
  $("received").textContent = count.format(received);
  $("position").textContent = epoch ? count.format(position) : "–";
  $("position").title = epoch ? `${epoch}.${position}` : "";
  $("gaps").textContent = count.format(gaps);
  for (const { cell, events } of counts.values()) cell.textContent = count.format(events);
  $("log").prepend(...fresh.reverse().map(logRow));
  fresh = [];
  while ($("log").rows.length > LOG_ROWS) $("log").lastChild.remove();
}

function countRecent(published) {
  const second = Math.floor(published);
  const last = recent.at(-1);
  if (last?.[0] === second) last[1] += 1;
  else recent.push([second, 1]);
  if (recent.length > 4 * RATE_S) recent.shift();
}

/** Events per second over the last whole seconds. */
function recentRate(now) {
  const until = Math.floor(now);
  const inside = recent.filter(([second]) => second >= until - RATE_S && second < until);
  return inside.reduce((sum, [, events]) => sum + events, 0) / RATE_S;
}

/** A new line of the table, which has the catalogue's order and then that of appearance. */
function addCount(type) {
  const rank = ranks.get(type) ?? Infinity;
  const after = [...counts.keys()].filter((other) => (ranks.get(other) ?? Infinity) <= rank).length;
  const row = $("counts").insertRow(after);
  const name = row.insertCell();
  name.append(swatch(type), type);
  const line = { cell: row.insertCell(), events: 0 };
  counts.set(type, line);
  return line;
}

function logRow({ published, type, text, gap }) {
  const row = document.createElement("tr");
  row.insertCell().textContent = clock(published);
  if (gap) {
    row.className = "gap";
    const cell = row.insertCell();
    cell.colSpan = 2;
    cell.textContent = gap;
    return row;
  }
  row.insertCell().append(swatch(type), type);
  const data = row.insertCell();
  data.textContent = text;
  data.title = text;
  return row;
}

function swatch(type) {
  const mark = document.createElement("i");
  mark.className = "swatch";
  mark.style.background = colors.get(type) ?? types.at(-1).color;
  return mark;
}

function clock(seconds) {
  const time = new Date(seconds * 1000);
  return `${time.toLocaleTimeString("en-GB")}.${String(time.getMilliseconds()).padStart(3, "0")}`;
}

/** An event's data in one line, the telling first. */
function told(data) {
  const keys = Object.keys(data);
  const order = [...keys.filter((key) => !COMMON.includes(key)), ...COMMON.filter((key) => key in data)];
  return JSON.stringify(Object.fromEntries(order.map((key) => [key, data[key]]))).slice(0, DATA_CHARACTERS);
}

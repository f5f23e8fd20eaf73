/**
 * A project's events over a native `EventSource`, once each, across every cut of the connection.
 *
 * The browser reconnects by itself, with the last id, as long as the server answers 200. After any other answer it gives
 * up (`readyState` is CLOSED); then we ask why, and open anew with `?last_event_id=` after a growing delay.
 *
 * An `EventSource` cannot listen to all names. But offsets count up by one: where they jump, and where the log has more
 * than came, the log is asked for events of other names, which are listened to from then on.
 */

import { ask, refusal } from "./http.js";

const HIDDEN_MS = 60_000; // who comes back within a minute has missed nothing
const HIDDEN_STREAMS = 2; // a browser has six connections to a server, for all tabs; the visible one needs its share
const FIRST_DELAY_MS = 1000; // what a restart takes
const MAX_DELAY_MS = 30000; // nobody watches a dead page for longer without reloading it
const LOOK_EVERY_MS = 2000; // for events of unknown names that no other follows
const PAGE = 1000; // the most that one request for history gives
const MAX_NAMES = 200; // more custom types than this is a mistake somewhere
const REMEMBERED = 10000; // ids of custom events; more than a connection and a look can overlap by
const MAX_SPANS = 100; // that wait to be looked through, while the server does not answer
const GONE = 410; // trimmed or reset meanwhile

/**
 * @param {string} base URL of the project's routes, such as "../projects/apollo"
 * @param {object} options
 *   names     the types to listen to from the start
 *   replay    how many of the newest entries to begin with
 *   onOpen    called with what the server says at the start of each connection: {epoch, first, last, resumed}
 *   onEvent   called with each event's JSON as the server sent it, its event id, and whether it was published while the
 *             stream was open and came by it: only then its age is a delay of the delivery
 *   onGap     called with each declared gap
 *   onLost    called with the event id of what should have come and did not: delivery is broken
 *   onState   called with "connecting", "open", "waiting", "asleep" or "closed", and the reason for people
 * @returns {{behind}} `behind()`: how many entries are still to come of those that were there when it was opened, or when
 *   a gap was declared
 *
 * A hidden tab gives its connection back after a minute, or as soon as two others were hidden later; when it is seen
 * again it goes on exactly where it was.
 */
export function openStream(base, { names, replay, onOpen, onEvent, onGap, onLost, onState }) {
  const catalogue = new Set(names);
  const custom = new Set();
  const seen = new Set(); // ids of custom events, which may come from the stream and from the log
  let source;
  let cursor = ""; // id of the newest event that came
  let epoch = ""; // empty after a gap that led into another one, until something tells which
  let covered = 0; // what came, or was looked for, reaches to this offset
  let failures = 0;
  let reason = "";
  let timer = 0;
  let top = 0; // the log's, when the stream was opened or a gap declared
  let isAsleep = false;
  let isClosed = false;
  let hiding = 0; // the timer until it falls asleep
  let later = 0; // other tabs that were hidden after this one
  const tabs = new BroadcastChannel("syndarix-rt");
  const spans = []; // of the log, to be looked through: from an event id to an offset; and whether the stream is past them
  let isLooking = false;

  function connect() {
    onState("connecting", reason);
    const from = cursor ? `last_event_id=${encodeURIComponent(cursor)}` : `replay=${replay}`;
    source = new EventSource(`${base}/events?${from}`);
    source.addEventListener("stream-open", opened);
    source.addEventListener("gap", gap);
    source.addEventListener("server-draining", () => (reason = "the server is shutting down"));
    source.addEventListener("auth-expiring", () => (reason = "the key is about to expire"));
    source.addEventListener("error", failed);
    for (const name of [...catalogue, ...custom]) source.addEventListener(name, received);
  }

  function opened({ data }) {
    const info = JSON.parse(data);
    failures = 0;
    reason = "";
    epoch = info.epoch;
    top = info.last;
    if (!info.resumed) covered = Math.max(info.first - 1, info.last - (cursor ? 0 : replay));
    onOpen(info);
    onState("open", "");
  }

  function gap({ data }) {
    const hole = JSON.parse(data);
    top = hole.last;
    covered = hole.first - 1;
    if (hole.reason === "epoch") {
      epoch = "";
      if (hole.missed !== null) covered = hole.last; // a part of it came before, under the last epoch's ids
    }
    onGap(hole);
  }

  function received({ type, data, lastEventId }) {
    cursor = lastEventId;
    epoch = epochOf(lastEventId);
    const offset = offsetOf(lastEventId);
    if (offset > covered + 1) {
      lookInto(covered, offset - 1, true);
      look();
    }
    covered = Math.max(covered, offset);
    if (catalogue.has(type)) onEvent(data, lastEventId, offset > top);
    else receivedCustom(type, data, lastEventId, offset > top);
  }

  function receivedCustom(type, raw, id, isLive) {
    if (seen.has(id)) return;
    seen.add(id);
    if (seen.size > REMEMBERED) seen.delete(seen.values().next().value);
    if (!custom.has(type) && custom.size < MAX_NAMES) {
      custom.add(type);
      source.addEventListener(type, received);
    }
    onEvent(raw, id, isLive);
  }

  // ---- the log -----------------------------------------------------------------------------------------------------

  /** Let what is between two offsets of this epoch be looked through for custom events. */
  function lookInto(after, last, isPast) {
    if (spans.length < MAX_SPANS) spans.push({ from: `${epoch}.${after}`, last, isPast });
    else onLost(`${epoch}.${after + 1}`);
  }

  /** Look through all spans, never twice at once. */
  async function look() {
    if (isLooking) return;
    isLooking = true;
    try {
      for (; spans.length; spans.shift()) await lookThrough(spans[0]);
    } catch {
      // No connection, or no good answer: what is left is looked through next time.
    }
    isLooking = false;
  }

  async function lookThrough(span) {
    while (offsetOf(span.from) < span.last) {
      const limit = Math.min(PAGE, span.last - offsetOf(span.from));
      const url = `${base}/events?after=${span.from}&limit=${limit}`;
      const answer = await ask(url, { headers: { accept: "application/x-ndjson" } });
      if (answer.status === GONE) return;
      if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
      const lines = (await answer.text()).split("\n").filter(Boolean);
      if (!lines.length) return;
      for (const line of lines) {
        const { position, event } = JSON.parse(line);
        span.from = position; // of a newer epoch, if that kept everything
        const raw = line.slice(line.indexOf("{", 1), -1); // of `event`, which comes last
        if (!catalogue.has(event.type)) receivedCustom(event.type, raw, position, false);
        else if (span.isPast) onLost(position);
      }
    }
  }

  /** Whether the log has more than came. */
  async function compare() {
    const before = epoch;
    const answer = await ask(`${base}/position`);
    if (!answer.ok) return;
    const { epoch: current, last } = await answer.json();
    if (epoch !== before) return; // the answer is about a log that is no more
    epoch ||= current;
    if (last > covered) lookInto(covered, last, false);
    covered = Math.max(covered, last);
  }

  async function keepLooking() {
    if (source.readyState === EventSource.OPEN && !document.hidden) {
      await compare().catch(() => {}); // no connection: the stream notices it, too
      await look();
    }
    setTimeout(keepLooking, LOOK_EVERY_MS);
  }

  async function failed() {
    if (isAsleep || isClosed) return;
    if (source.readyState !== EventSource.CLOSED) {
      onState("waiting", reason || "the connection was cut");
      return;
    }
    const lost = source;
    const delay = Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** failures) * (0.5 + Math.random() / 2);
    failures += 1;
    const why = await refusal(await ask(`${base}/position`).catch(() => null));
    if (isAsleep || source !== lost) return; // it fell asleep meanwhile, and may have been woken
    ({ reason } = why);
    isClosed = why.isFinal;
    onState(isClosed ? "closed" : "waiting", reason);
    if (!isClosed) timer = setTimeout(connect, why.atLeast + delay); // all who were refused are told the same: not all at once
  }

  // ---- hidden tabs -------------------------------------------------------------------------------------------------

  function shown() {
    clearTimeout(hiding);
    later = 0;
    if (document.hidden) {
      hiding = setTimeout(sleep, HIDDEN_MS);
      tabs.postMessage("hidden");
    } else if (isAsleep) {
      isAsleep = false;
      connect();
    }
  }

  function sleep() {
    if (isAsleep || isClosed) return;
    isAsleep = true;
    clearTimeout(timer);
    source.close();
    onState("asleep", "");
  }

  tabs.onmessage = () => {
    later += 1;
    if (document.hidden && later >= HIDDEN_STREAMS) sleep();
  };
  document.addEventListener("visibilitychange", shown);

  connect();
  if (document.hidden) shown(); // opened in the background
  setTimeout(keepLooking, LOOK_EVERY_MS);
  return { behind: () => Math.max(0, top - covered) };
}

const epochOf = (id) => id.slice(0, id.indexOf("."));
const offsetOf = (id) => Number(id.slice(id.indexOf(".") + 1));

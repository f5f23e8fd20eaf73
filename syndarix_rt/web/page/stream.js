/**
 * A project's events over a native `EventSource`, once each, across every cut of the connection.
 *
 * The browser reconnects by itself, with the last id, as long as the server answers 200. After any other answer it gives
 * up (`readyState` is CLOSED); then we ask why, and open anew with `?last_event_id=` after a growing delay.
 *
 * An `EventSource` cannot listen to all names. But offsets count up by one: where they jump, and where the log has more
 * than came, the log is asked for events of other names, which are listened to from then on.
 */

import { refusal } from "./refusal.js";

const HIDDEN_MS = 60_000; // who comes back within a minute has missed nothing
const HIDDEN_STREAMS = 2; // a browser has six connections to a server, for all tabs; the visible one needs its share
const FIRST_DELAY_MS = 1000; // what a restart takes
const MAX_DELAY_MS = 30000; // nobody watches a dead page for longer without reloading it
const LOOK_EVERY_MS = 2000; // for events of unknown names that no other follows
const PAGE = 1000; // the most that one request for history gives
const MAX_NAMES = 200; // more custom types than this is a mistake somewhere
const REMEMBERED = 10000; // ids of custom events; more than a connection and a look can overlap by

/**
 * @param {string} base URL of the project's routes, such as "../projects/apollo"
 * @param {object} options
 *   names     the types to listen to from the start
 *   replay    how many of the newest entries to begin with
 *   onOpen    called with what the server says at the start of each connection: {epoch, first, last, resumed}
 *   onEvent   called with each event's JSON and its event id
 *   onGap     called with each declared gap
 *   onLost    called with the event id of what should have come and did not: delivery is broken
 *   onState   called with "connecting", "open", "waiting", "asleep" or "closed", and the reason for people
 * @returns {{close, behind}} `behind()`: how many entries are still to come of those that were there when it was opened
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
  let top = 0; // the log's, when the stream was opened
  let isAsleep = false;
  let isClosed = false;
  let hiding = 0; // the timer until it falls asleep
  let later = 0; // other tabs that were hidden after this one
  const tabs = new BroadcastChannel("syndarix-rt");
  let looking = Promise.resolve();

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
    if (offset > covered + 1) look(covered, offset - 1, true);
    covered = Math.max(covered, offset);
    if (catalogue.has(type)) onEvent(data, lastEventId);
    else receivedCustom(type, data, lastEventId);
  }

  function receivedCustom(type, raw, id) {
    if (seen.has(id)) return;
    seen.add(id);
    if (seen.size > REMEMBERED) seen.delete(seen.values().next().value);
    if (!custom.has(type) && custom.size < MAX_NAMES) {
      custom.add(type);
      source.addEventListener(type, received);
    }
    onEvent(raw, id);
  }

  /** Ask the log for custom events between two offsets of this epoch; one look after the other. */
  function look(after, last, isPast = false) {
    let from = `${epoch}.${after}`;
    const work = async () => {
      while (offsetOf(from) < last) {
        const limit = Math.min(PAGE, last - offsetOf(from));
        const url = `${base}/events?after=${from}&limit=${limit}`;
        const answer = await fetch(url, { headers: { accept: "application/json" } });
        if (!answer.ok) return; // trimmed or reset meanwhile
        const { events } = await answer.json();
        if (!events.length) return;
        from = events.at(-1).position; // of a newer epoch, if that kept everything
        for (const { position, event } of events) {
          if (!catalogue.has(event.type)) receivedCustom(event.type, JSON.stringify(event), position);
          else if (isPast) onLost(position);
        }
      }
    };
    looking = looking.then(work).catch(() => {}); // no connection: the stream notices it, too
  }

  async function lookForMore() {
    if (source.readyState !== EventSource.OPEN || document.hidden) return;
    const answer = await fetch(`${base}/position`).catch(() => null);
    if (!answer?.ok) return;
    const { epoch: current, last } = await answer.json();
    epoch ||= current;
    if (last <= covered) return;
    look(covered, last);
    covered = last;
  }

  async function failed() {
    if (isAsleep || isClosed) return;
    if (source.readyState !== EventSource.CLOSED) {
      onState("waiting", reason || "the connection was cut");
      return;
    }
    const delay = Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** failures) * (0.5 + Math.random() / 2);
    failures += 1;
    let atLeast = 0;
    try {
      const answer = await fetch(`${base}/position`);
      if (answer.status === 401 || answer.status === 403) {
        isClosed = true;
        onState("closed", "this browser has no key any more: open the URL that the server printed");
        return;
      }
      ({ reason, atLeast } = await refusal(answer));
    } catch {
      reason = "the server cannot be reached";
    }
    if (isAsleep || isClosed) return;
    onState("waiting", reason);
    timer = setTimeout(connect, atLeast + delay); // the same is asked of all who were refused: not all at once
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
  const looker = setInterval(lookForMore, LOOK_EVERY_MS);
  return {
    behind: () => Math.max(0, top - covered),
    close() {
      isClosed = true;
      document.removeEventListener("visibilitychange", shown);
      tabs.close();
      clearTimeout(hiding);
      clearTimeout(timer);
      clearInterval(looker);
      source.close();
      onState("closed", "");
    },
  };
}

const epochOf = (id) => id.slice(0, id.indexOf("."));
const offsetOf = (id) => Number(id.slice(id.indexOf(".") + 1));

/** The project's chat over `WS …/chat` (syndarix.chat.v1): what was said, answers as they grow, who is here. */

import { openSocket } from "./socket.js";

const MAX_MESSAGES = 200;
const TYPING_EVERY_MS = 2000; // it holds for five seconds
const NAME = "syndarix-rt-name"; // kept as long as the tab, so that whoever loads the page again is who they were

export class Chat {
  constructor(base, onChange) {
    this.messages = new Map(); // by speaker and id, oldest first
    this.members = new Map();
    this.name = sessionStorage.getItem(NAME) ?? ""; // without one the server gives it, or the token says it
    this.session = "";
    this.position = "";
    this.status = "connecting";
    this.onChange = onChange;
    this.typed = -Infinity;
    this.unsaid = new Map(); // what was sent and is not acknowledged, by id
    this.base = base;
    this.open();
  }

  open() {
    this.socket = openSocket(`${this.base}/chat`, "syndarix.chat.v1", {
      query: () => this.query(),
      onMessage: (frame) => this.receive(frame),
      onClose: (code) => this.closed(code),
    });
  }

  closed(code) {
    if (code === 4403 && this.name) { // another token speaks for somebody else than the last one did
      this.name = this.session = "";
      sessionStorage.removeItem(NAME);
      this.open();
      return;
    }
    this.status = code === 4401 || code === 4403 ? "this browser may not enter the chat" : "reconnecting";
    this.onChange();
  }

  get content() {
    return {
      messages: [...this.messages.values()],
      members: [...new Set([...this.members.values()])].filter((name) => name !== this.name).concat(this.name || []),
      status: this.status,
    };
  }

  say(text, to) {
    const id = crypto.getRandomValues(new Uint32Array(3)).join("-");
    const frame = { type: "say", id, text, to };
    this.unsaid.set(id, frame);
    this.socket.send(frame); // if it is cut now, it is said again
  }

  typing() {
    if (performance.now() - this.typed < TYPING_EVERY_MS) return;
    this.typed = performance.now();
    this.socket.send({ type: "typing" });
  }

  query() {
    const query = new URLSearchParams();
    if (this.name) query.set("name", this.name);
    if (this.session) query.set("session", this.session);
    if (this.position) query.set("last_event_id", this.position);
    return String(query);
  }

  receive(frame) {
    if (frame.position && frame.type !== "ready") this.position = frame.position;
    const { type } = frame;
    if (type === "ready") {
      [this.name, this.session, this.status] = [frame.name, frame.session, ""];
      sessionStorage.setItem(NAME, frame.name);
      this.position ||= frame.position;
      this.members = new Map(frame.members.map(({ name, kind }) => [`${kind} ${name}`, name]));
      for (const said of this.unsaid.values()) this.socket.send(said);
    } else if (type === "presence") {
      for (const { name, kind } of frame.left) this.members.delete(`${kind} ${name}`);
      for (const { name, kind } of frame.joined) this.members.set(`${kind} ${name}`, name);
    } else if (type === "said" || type === "done") {
      if (frame.from === this.name) this.unsaid.delete(frame.id);
      this.put(frame, frame.text, false);
    } else if (type === "delta") {
      const known = this.messages.get(`${frame.from} ${frame.id}`)?.words ?? "";
      this.put(frame, [...known].slice(0, frame.at).join("") + frame.text, true);
    } else if (type === "error" && frame.id) {
      const refused = this.unsaid.get(frame.id);
      this.unsaid.delete(frame.id);
      if (refused) this.put({ ...refused, from: this.name, error: frame.detail }, refused.text, false);
    } else return;
    this.onChange();
  }

  put({ id, from, to, error = "" }, words, isOpen) {
    const key = `${from} ${id}`;
    this.messages.set(key, { key, from, to, words, isOpen, error, isMine: from === this.name });
    if (this.messages.size > MAX_MESSAGES) this.messages.delete(this.messages.keys().next().value);
  }
}

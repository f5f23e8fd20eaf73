/** What waits for a person's decision. As of the notebook's `panels/inbox.py`. */

import { secondsOf } from "./sighting.js";

const MAX_PENDING = 500; // more nobody reads through; then the oldest go

/** Approvals in the order in which they were asked for: `pending`, by id. */
export class ApprovalInbox {
  types = ["approval_required", "approval_resolved"];

  constructor() {
    this.pending = new Map();
    this.isUncertain = true; // whether something may have been asked or decided unseen; the server knows
    this.version = 0;
    this.sinceAsked = null; // what events said while the server was asked; null for one: decided
  }

  see({ type, time, simulation, data }) {
    const waiting =
      type === "approval_required"
        ? describe({ ...data, since: time, simulation })
        : null;
    this.put(data.approval_id, waiting);
    this.sinceAsked?.set(data.approval_id, waiting);
    this.version += 1;
  }

  /** The server is asked now; what this returns is given to `correct`, with the answer. */
  ask() {
    this.isUncertain = false;
    this.sinceAsked = new Map();
    return this.sinceAsked;
  }

  /** Take what the server says waits; nothing if it was asked again since then, or the log has begun anew. */
  correct(question, approvals) {
    if (this.sinceAsked !== question) return;
    const old = this.pending;
    this.pending = new Map();
    for (const approval of approvals) {
      const told = describe({ ...approval, since: secondsOf(approval.since) });
      this.put(approval.approval_id, old.get(approval.approval_id) ?? told);
    }
    for (const [id, waiting] of this.sinceAsked) this.put(id, waiting);
    this.sinceAsked = null;
    this.version += 1;
  }

  /** A decision is on its way, or (with an empty one and an error) came to nothing. */
  decide(id, decision, error = "") {
    const waiting = this.pending.get(id);
    if (!waiting) return;
    [waiting.decided, waiting.error] = [decision, error];
    this.version += 1;
  }

  prove() {}

  advance() {}

  /** Something was lost: ask the server what waits. */
  gap() {
    this.isUncertain = true;
    this.version += 1;
  }

  /** The log begins anew: nothing waits, whatever the server answers that was asked before. */
  begin() {
    this.pending.clear();
    this.isUncertain = false;
    this.sinceAsked = null;
    this.version += 1;
  }

  clear() {
    this.begin();
  }

  put(id, waiting) {
    if (!waiting) {
      this.pending.delete(id);
      return;
    }
    this.pending.set(id, waiting);
    if (this.pending.size > MAX_PENDING) this.pending.delete(this.pending.keys().next().value);
  }
}

/** One that waits; `since` is the time of the question, seconds since 1970, simulated or real. */
function describe({ approval_id: id, since, simulation, kind, title, ...data }) {
  const about = ["pr_id", "issue_id", "run_id"].map((key) => data[key]).filter(Boolean);
  return {
    id,
    since,
    simulation,
    kind: kind || "approval",
    title: title || id,
    about: about.join(" · "),
    decided: "",
    error: "",
  };
}

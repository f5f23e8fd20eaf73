/** Issues on their way (a cumulative flow diagram), and the sprint's progress (a burn-up chart). As of `panels/work.py`. */

import { Levels } from "./binned.js";
import { Census } from "./census.js";

/** The series of those whose state a gap has hidden. */
export const DOUBTFUL = { name: "unknown since a gap", color: "#A9B1BA", rare: true };

/** From the baseline up, as an issue's life goes backwards: so each boundary is a curve of arrivals in a state. */
export const ISSUE_SERIES = [
  { name: "done", color: "#009E73" },
  { name: "dropped", color: "#7F8792" },
  { name: "in review", color: "#CC79A7" },
  { name: "blocked", color: "#D55E00" },
  { name: "in progress", color: "#0072B2" },
  { name: "assigned", color: "#56B4E9" },
  { name: "open", color: "#E69F00" },
  DOUBTFUL,
];

export const SPRINT_SERIES = [
  { name: "scope", color: "#E69F00" },
  { name: "ideal", color: "#7F8792", dash: true },
  { name: "closed", color: "#009E73" },
];

const MAX_AHEAD = 2000; // bins drawn of what is to come: a sprint that says it takes years needs no more
const [DONE, DROPPED, REVIEW, BLOCKED, PROGRESS, ASSIGNED, OPEN, UNKNOWN] = ISSUE_SERIES.keys();
const STATES = new Map([
  ["open", OPEN],
  ["reopened", OPEN],
  ["assigned", ASSIGNED],
  ["in_progress", PROGRESS],
  ["in_review", REVIEW],
  ["blocked", BLOCKED],
]);

/** How many issues are in each state, of those that were seen. */
export class IssueFlow extends Levels {
  types = ["issue_created", "issue_updated", "issue_closed"];

  constructor(options) {
    super(ISSUE_SERIES.length, options);
    this.issues = new Census(ISSUE_SERIES.length, { final: [DONE, DROPPED], doubtful: UNKNOWN });
  }

  see({ type, data }, time) {
    const { issues } = this;
    let state = STATES.get(data.state) ?? OPEN;
    if (type === "issue_closed") state = (data.resolution ?? "done") === "done" ? DONE : DROPPED;
    // One that says nothing of where it is leaves it where it was.
    if (type === "issue_updated") state = STATES.get(data.state) ?? issues.state(data.issue_id) ?? OPEN;
    issues.move(data.issue_id, state);
    this.set(time, issues.counts);
  }

  /** Issues may have moved unseen. */
  gap(now, label) {
    super.gap(now, label);
    this.issues.doubt();
    this.levels = [...this.issues.counts];
  }

  /** Time goes on; who was not seen for as long as is shown is forgotten. */
  advance(now) {
    if (this.issues.counts[UNKNOWN] && this.gaps.length && this.gaps.at(-1).to < now - this.bins * this.binS) {
      this.issues.forgetDoubtful();
      this.levels = [...this.issues.counts];
    }
    super.advance(now);
  }

  begin() {
    this.issues.clear();
    this.levels = [...this.issues.counts];
  }
}

/**
 * Closed issues of the newest sprint, its scope, and what would be closed by now at an even pace.
 *
 * The scope is what was planned and what was created since. Nothing is known of a sprint whose start was not seen, and
 * from a gap on to the next start. `span` is [start, end or null] of the sprint on the axis; null without one.
 */
export class SprintProgress extends Levels {
  types = null; // also to know how far the sprint's time has gone

  constructor({ isSimulated = false, ...options } = {}) {
    super(SPRINT_SERIES.length, options);
    this.isSimulated = isSimulated;
    this.start = 0; // in the time of events, as is `duration`
    this.duration = 0;
    this.closed = 0;
    this.scope = 0;
    this.toldBin = NaN;
    this.idealVersion = 0; // when the ideal of what is to come was changed
    this.begin();
  }

  see({ type, time: eventTime, data }, time) {
    const bin = Math.floor(time / this.binS);
    if (type === "sprint_started") this.startSprint(data, eventTime, time);
    else if (type === "sprint_completed" && this.sprintId) {
      this.sprintId = "";
      if (this.span) this.span = [this.span[0], time];
      this.set(time, new Array(SPRINT_SERIES.length).fill(NaN));
      return;
    } else if (type === "issue_created" && this.isIn(data)) {
      this.scope += 1;
      this.idealVersion = this.version + 1;
    } else if (type === "issue_closed" && this.isIn(data)) this.closed += 1;
    else if (!this.sprintId || bin === this.toldBin) return;
    if (!this.sprintId) return;
    this.toldBin = bin;
    this.set(time, [this.scope, this.ideal(eventTime), this.closed]);
  }

  /** As of `Binned`; of what is to come there is only the ideal, if it is known when the sprint ends. */
  rows(since = 0) {
    const rows = super.rows(since);
    const end = this.span?.[1] ?? null;
    if (!this.sprintId || end === null || this.idealVersion <= since) return rows;
    const ahead = [];
    const stop = Math.min(Math.ceil(end / this.binS), this.last + MAX_AHEAD);
    for (let bin = this.last + 1; bin <= stop; bin += 1) ahead.push(bin * this.binS, NaN, this.ideal(bin * this.binS), NaN);
    const all = new Float64Array(rows.length + ahead.length);
    all.set(rows);
    all.set(ahead, rows.length);
    return all;
  }

  /** What was closed may not have been seen. */
  gap(now, label) {
    super.gap(now, label);
    this.sprintId = "";
    this.levels.fill(NaN);
  }

  /** There is no sprint yet. */
  begin() {
    this.sprintId = "";
    this.span = null;
    this.levels.fill(NaN);
  }

  startSprint(data, eventTime, time) {
    this.sprintId = data.sprint_id;
    [this.start, this.duration] = [eventTime, data.duration_s || 0];
    [this.closed, this.scope] = [0, data.issues_planned || 0];
    this.span = [time, this.isSimulated && this.duration ? eventTime + this.duration : null];
    this.prove(time); // also what was before it has rows then
    const before = Math.floor(time / this.binS) - 1;
    if (this.kept.has(before)) {
      this.kept.get(before).fill(NaN); // of another sprint, and not to be joined
      this.touch(before);
    }
    this.idealVersion = this.version + 1;
  }

  /** What would be closed at a time of the events, at an even pace. */
  ideal(eventTime) {
    if (!this.duration) return NaN;
    return this.scope * Math.min(Math.max((eventTime - this.start) / this.duration, 0), 1);
  }

  isIn(issue) {
    return this.sprintId !== "" && issue.sprint_id === this.sprintId;
  }
}

/** What becomes of the code: branches, commits, pull requests and pipelines. As of the notebook's `panels/changes.py`. */

import { Levels } from "./binned.js";
import { Census } from "./census.js";
import { DOUBTFUL } from "./work.js";

export const CHANGE_SERIES = [
  { name: "commits", color: "#7F8792" },
  { name: "branches", color: "#56B4E9" },
  { name: "pull requests open", color: "#E69F00" },
  { name: "merged", color: "#009E73" },
  { name: "closed unmerged", color: "#D55E00" },
  { name: `pull requests ${DOUBTFUL.name}`, color: "#CC79A7", rare: true },
];

export const PIPELINE_SERIES = [
  { name: "running", color: "#0072B2" },
  { name: "waiting for a runner", color: "#E69F00" },
  DOUBTFUL,
  { name: "just failed", color: "#D55E00" },
];

const MAX_REQUIRED = 20_000; // open requests that are remembered: more than any team has
const [COMMITS, BRANCHES, OPEN, MERGED, CLOSED, UNKNOWN] = CHANGE_SERIES.keys();
const [RUNNING, WAITING, UNSURE, FAILED] = PIPELINE_SERIES.keys();
const REQUEST_STATES = { pr_created: OPEN, pr_merged: MERGED, pr_closed: CLOSED };

/** Commits and branches so far, and pull requests by state, of those that were seen. */
export class Changes extends Levels {
  types = ["branch_created", "commit_pushed", "pr_created", "pr_merged", "pr_closed"];

  constructor(options) {
    super(CHANGE_SERIES.length, options);
    this.requests = new Census(CHANGE_SERIES.length, { final: [MERGED, CLOSED], doubtful: UNKNOWN });
  }

  see({ type, data }, time) {
    const { requests } = this;
    if (type === "commit_pushed") requests.counts[COMMITS] += 1;
    else if (type === "branch_created") requests.counts[BRANCHES] += 1;
    else requests.move(data.pr_id, REQUEST_STATES[type]);
    this.set(time, requests.counts);
  }

  /** Requests may have been decided unseen. */
  gap(now, label) {
    super.gap(now, label);
    this.requests.doubt();
    this.levels = [...this.requests.counts];
  }

  begin() {
    this.requests.clear();
    this.levels = [...this.requests.counts];
  }
}

/**
 * How many pipelines run and how many wait for a runner; those that failed, in the bin in which they did.
 *
 * No event says that a pipeline waits. It does from when a request that must be green is put up for review, or loses its
 * pipeline to the infrastructure, to the pipeline's start.
 */
export class Pipelines extends Levels {
  types = [
    ...["pipeline_started", "pipeline_completed", "pipeline_failed"],
    ...["pr_created", "pr_merged", "pr_closed", "issue_updated"],
  ];

  constructor(options) {
    super(PIPELINE_SERIES.length, { spikes: 1, ...options });
    this.pipelines = new Census(FAILED, { doubtful: UNSURE });
    this.required = new Set(); // open requests that must be green, the oldest first
  }

  see({ type, data }, time) {
    const { pipelines, required } = this;
    const { pr_id: request } = data;
    let failed = null;
    if (type === "pipeline_started") {
      pipelines.move(`request ${request}`, null);
      pipelines.move(data.pipeline_id, RUNNING);
    } else if (type === "pipeline_completed") pipelines.move(data.pipeline_id, null);
    else if (type === "pipeline_failed") {
      pipelines.move(data.pipeline_id, null);
      failed = FAILED;
      if (data.reason === "infra" && required.has(request)) pipelines.move(`request ${request}`, WAITING);
    } else if (type === "pr_created" && data.require_green) {
      required.add(request);
      if (required.size > MAX_REQUIRED) required.delete(required.values().next().value);
      pipelines.move(`request ${request}`, WAITING);
    } else if (type === "issue_updated" && data.state === "in_review" && required.has(request)) {
      pipelines.move(`request ${request}`, WAITING);
    } else if (type === "pr_merged" || type === "pr_closed") {
      required.delete(request);
      pipelines.move(`request ${request}`, null);
    } else return;
    this.set(time, pipelines.counts, failed);
  }

  /** Pipelines may have started and ended unseen. */
  gap(now, label) {
    super.gap(now, label);
    this.pipelines.doubt();
    this.levels = [...this.pipelines.counts];
  }

  /** Time goes on; what was not seen for as long as is shown is forgotten. */
  advance(now) {
    if (this.pipelines.counts[UNSURE] && this.gaps.length && this.gaps.at(-1).to < now - this.bins * this.binS) {
      this.pipelines.forgetDoubtful();
      this.levels = [...this.pipelines.counts];
    }
    super.advance(now);
  }

  begin() {
    this.pipelines.clear();
    this.required.clear();
    this.levels = [...this.pipelines.counts];
  }
}

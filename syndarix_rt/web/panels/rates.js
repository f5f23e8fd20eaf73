/** Events, tokens and money, as events come. As of the notebook's `panels/rates.py`. */

import { Levels, Sums } from "./binned.js";

export const TOKEN_SERIES = [
  { name: "output", color: "#E69F00" },
  { name: "input", color: "#0072B2" },
  { name: "input from cache", color: "#8CC8EE" },
];

export const COST_SERIES = [
  { name: "developer", color: "#0072B2" },
  { name: "planner", color: "#CC79A7" },
  { name: "tester", color: "#E69F00" },
  { name: "reviewer", color: "#009E73" },
  { name: "other roles", color: "#7F8792" },
];

const ROLES = new Map(COST_SERIES.map(({ name }, column) => [name, column]));
const [OUTPUT, INPUT, CACHED] = [0, 1, 2];

/** Events by type; the last of the names takes every type that is none of the others. */
export class EventRate extends Sums {
  types = null;

  constructor(names, options) {
    super(names.length, options);
    this.index = new Map(names.map((name, column) => [name, column]));
  }

  see({ type }, time) {
    this.count(time, [[this.index.get(type) ?? this.width - 1, 1]]);
  }
}

/** Tokens of LLM calls, in the bin in which the call ends: that is when an event tells of them. */
export class Tokens extends Sums {
  types = ["agent_activity"];

  constructor(options) {
    super(TOKEN_SERIES.length, options);
  }

  see({ data }, time) {
    const input = data["gen_ai.usage.input_tokens"] || 0;
    const cached = Math.min(data.cached_tokens || 0, input);
    const output = data["gen_ai.usage.output_tokens"] || 0;
    if (input || output) this.count(time, [[OUTPUT, output], [INPUT, input - cached], [CACHED, cached]]);
  }
}

/** US dollars spent so far by role, as far as they were seen: a gap may hide some. */
export class Cost extends Levels {
  types = ["agent_activity"];

  constructor(options) {
    super(COST_SERIES.length, options);
  }

  see({ data }, time) {
    if (!data.cost_usd) return;
    this.levels[ROLES.get(data.role) ?? this.levels.length - 1] += data.cost_usd;
    this.set(time, this.levels);
  }

  /** Nothing is spent yet. */
  begin() {
    this.levels = new Array(COST_SERIES.length).fill(0);
  }
}

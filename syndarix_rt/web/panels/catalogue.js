/** All charts of a page: what each counts, and how it is drawn. As of the notebook's `panels/catalogue.py`. */

import { AGENT_STATES, AgentLanes } from "./agents.js";
import { CHANGE_SERIES, Changes, PIPELINE_SERIES, Pipelines } from "./changes.js";
import { Cost, COST_SERIES, EventRate, TOKEN_SERIES, Tokens } from "./rates.js";
import { ISSUE_SERIES, IssueFlow, SPRINT_SERIES, SprintProgress } from "./work.js";

const BINS = 602; // a bin is a pixel or two then; two more, as the window begins and ends in the midst of one
const HEIGHT_PX = 220; // of all, so that those beside each other begin and end together
const BINS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];

/**
 * Charts that have seen nothing yet, by name, in the order in which they are shown.
 *
 * @param {object[]} types series of the events by type, as of types.json
 * @param {object} axis {isSimulated, windowS}: whether it is simulated time, and how much of it is shown
 * @returns {Map<string, {model, options}>} what counts, and the options of `createChart`
 */
export function makeCharts(types, { isSimulated, windowS }) {
  const binS = BINS_S.find((size) => windowS <= size * (BINS - 2)) ?? 2 * BINS_S.at(-1);
  const levels = { binS, bins: BINS };
  const sums = { ...levels, unitS: isSimulated ? 60 : 1 }; // a simulated second is gone before it is seen
  const per = (what) => (isSimulated ? `${what} per simulated min` : `${what}/s`);
  const charts = new Map();
  const add = (name, model, kind, title, unit, series, empty) => {
    const clock = isSimulated ? "simulated" : "wall";
    const whole = name !== "cost"; // which is measured, not counted
    const options = { kind, title, unit, series, windowS, whole, height: HEIGHT_PX, empty, clock, binS: model.binS };
    charts.set(name, { model, options });
  };
  const names = types.map(({ name }) => name);
  add("events", new EventRate(names, sums), "bars", "Events by type", per("events"), types, "No event yet");
  add("agents", new AgentLanes({ windowS }), "lanes", "Agents", "", AGENT_STATES, "No agent has been seen yet");
  add("issues", new IssueFlow(levels), "areas", "Issues by state", "issues", ISSUE_SERIES, "No issue yet");
  const sprint = new SprintProgress({ ...levels, isSimulated });
  add("sprint", sprint, "lines", "Sprint: closed issues and scope", "issues", SPRINT_SERIES, "No sprint has begun yet");
  const tokens = new Tokens(sums);
  add("tokens", tokens, "bars", "Tokens of LLM calls", per("tokens"), TOKEN_SERIES, "No LLM call has ended yet");
  add("cost", new Cost(levels), "areas", "Cost so far, by role", "USD", COST_SERIES, "Nothing spent yet");
  const git = "Branches, commits and pull requests";
  add("git", new Changes(levels), "lines", git, "number so far; of open ones, now", CHANGE_SERIES, "No branch, commit or pull request yet");
  add("pipelines", new Pipelines(levels), "bars", "Pipelines", "pipelines", PIPELINE_SERIES, "No pipeline yet");
  return charts;
}

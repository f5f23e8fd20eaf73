/** The list of projects, asked for every few seconds. */

import { ask, refusal } from "./http.js";

const EVERY_MS = 3000;
let notBefore = 0; // on the page's clock: what Retry-After said
const rows = new Map(); // by project; kept, so that a link keeps the focus
const $ = (id) => document.getElementById(id);
const KEPT = 60; // looks: three minutes
const [WIDTH, HEIGHT] = [140, 26];
const SVG = "http://www.w3.org/2000/svg";
const number = new Intl.NumberFormat("en");

async function refresh() {
  let answer = null;
  try {
    answer = await ask("projects");
    if (answer.ok) {
      list((await answer.json()).projects);
      show("open", "live");
      return;
    }
  } catch {
    answer = null;
  }
  const { reason, atLeast, isFinal } = await refusal(answer);
  notBefore = performance.now() + atLeast;
  show(isFinal ? "closed" : "waiting", reason);
}

function show(state, text) {
  $("connection").dataset.state = state;
  $("connection").textContent = text;
}

function list(projects) {
  const names = new Set(projects.map(({ project }) => project));
  for (const [name, row] of rows) {
    if (names.has(name)) continue;
    row.line.remove();
    rows.delete(name);
  }
  projects.forEach((told, place) => {
    if (!rows.has(told.project)) rows.set(told.project, build(told.project));
    const { line } = fill(rows.get(told.project), told);
    if ($("projects").rows[place] !== line) $("projects").insertBefore(line, $("projects").rows[place] ?? null);
  });
  $("empty").hidden = projects.length > 0;
}

function build(project) {
  const line = document.createElement("tr");
  const link = line.insertCell().appendChild(document.createElement("a"));
  link.href = `p/${encodeURIComponent(project)}`;
  link.textContent = project;
  const [rate, picture, kept, position, subscribers] = Array.from({ length: 5 }, () => line.insertCell());
  return { line, rate, picture, kept, position, subscribers, rates: [] }; // events per second at each look, null: not known
}

function fill(row, { events_per_s: rate, first, last, subscribers }) {
  row.rates = [...row.rates, rate].slice(-KEPT);
  row.rate.textContent = rate === null ? "–" : rate.toFixed(1);
  row.picture.replaceChildren(spark(row.rates));
  row.kept.textContent = number.format(last - first + 1);
  row.position.textContent = number.format(last);
  row.subscribers.textContent = number.format(subscribers);
  return row;
}

/** The rates as a small line, as far as they are known. */
function spark(values) {
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("class", "spark");
  picture.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  picture.setAttribute("preserveAspectRatio", "none");
  picture.setAttribute("aria-hidden", "true");
  const highest = Math.max(1e-9, ...values.filter((value) => value !== null));
  const from = KEPT - values.length;
  let points = [];
  const flush = () => {
    if (points.length > 1) {
      const line = document.createElementNS(SVG, "polyline");
      line.setAttribute("points", points.join(" "));
      picture.append(line);
    }
    points = [];
  };
  values.forEach((value, n) => {
    if (value === null) flush();
    else points.push(`${((from + n) / (KEPT - 1)) * WIDTH},${HEIGHT - 2 - (value / highest) * (HEIGHT - 4)}`);
  });
  flush();
  return picture;
}

/** Ask again and again, never twice at once: answers that overtake each other would show what was before. */
async function keepUp() {
  if (!document.hidden && performance.now() >= notBefore) await refresh();
  setTimeout(keepUp, EVERY_MS);
}

await refresh();
setTimeout(keepUp, EVERY_MS);

/** The list of projects, asked for every few seconds. */

import { refusal } from "./refusal.js";

const EVERY_MS = 3000;
const ANSWER_MS = 10_000; // a server that takes longer is asked again: the connection may be dead
let notBefore = 0; // on the page's clock: what Retry-After said
const rates = new Map(); // project -> events per second at each look, null: not known
const $ = (id) => document.getElementById(id);
const KEPT = 60; // looks: three minutes
const [WIDTH, HEIGHT] = [140, 26];
const SVG = "http://www.w3.org/2000/svg";
const number = new Intl.NumberFormat("en");

async function refresh() {
  try {
    const answer = await fetch("projects", { signal: AbortSignal.timeout(ANSWER_MS) });
    if (!answer.ok) {
      if (answer.status === 401 || answer.status === 403) {
        show("closed", "no key: open the URL that the server printed");
        return;
      }
      const { reason, atLeast } = await refusal(answer);
      notBefore = performance.now() + atLeast;
      show("waiting", reason);
      return;
    }
    const { projects } = await answer.json();
    $("projects").replaceChildren(...projects.map(row));
    $("empty").hidden = projects.length > 0;
    show("open", "live");
  } catch {
    show("waiting", "the server cannot be reached");
  }
}

function show(state, text) {
  $("connection").dataset.state = state;
  $("connection").textContent = text;
}

function row({ project, events_per_s: rate, first, last, subscribers }) {
  const line = document.createElement("tr");
  const link = document.createElement("a");
  link.href = `p/${encodeURIComponent(project)}`;
  link.textContent = project;
  line.insertCell().append(link);
  const kept = [...(rates.get(project) ?? []), rate].slice(-KEPT);
  rates.set(project, kept);
  line.insertCell().textContent = rate === null ? "–" : rate.toFixed(1);
  line.insertCell().append(spark(kept));
  for (const text of [last - first + 1, last, subscribers].map(number.format)) {
    line.insertCell().textContent = text;
  }
  return line;
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

/** The list of projects, asked for every few seconds. */

const EVERY_MS = 3000;
const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");

async function refresh() {
  try {
    const answer = await fetch("projects");
    if (!answer.ok) {
      const denied = answer.status === 401 || answer.status === 403;
      show("closed", denied ? "no key: open the URL that the server printed" : `the server answers ${answer.status}`);
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
  for (const text of [rate === null ? "–" : rate.toFixed(1), ...[last - first + 1, last, subscribers].map(number.format)]) {
    line.insertCell().textContent = text;
  }
  return line;
}

await refresh();
setInterval(() => document.hidden || refresh(), EVERY_MS);

/** The newest events, to be filtered and looked into. `send` gets {op: "filter", type, text} and {op: "details", number}. */

import { frame, make } from "./frame.js";

const SEARCH_AFTER_MS = 250; // typing has paused

export function createView(el, { title, simulated, rows: limit }, send) {
  const { section, head, note, body } = frame(el, title, "srt-log");

  const tools = head.appendChild(make("div", "srt-tools"));
  const types = tools.appendChild(make("select", "", "", { "aria-label": "Show only events of" }));
  const search = tools.appendChild(make("input", "", "", { type: "search", placeholder: "Search", "aria-label": "Search events" }));
  const fresh = tools.appendChild(make("button", "srt-fresh", "", { type: "button" }));
  fresh.hidden = true;

  const empty = body.appendChild(make("p", "srt-empty", "No event yet."));
  const scroll = body.appendChild(make("div", "srt-scroll", "", { tabindex: "-1" }));
  const table = scroll.appendChild(make("table"));
  const top = table.createTHead().insertRow();
  for (const name of [simulated ? "simulated time" : "published", "type", "subject", "data"]) top.append(make("th", "", name, { scope: "col" }));
  const lines = table.createTBody();
  let held = []; // messages kept back while somebody reads
  let open = null; // {row, detail, text, number} of the line that is looked into
  let stop = null; // the line that the Tab key leads to

  const clock = (seconds) => {
    const time = new Date(seconds * 1000);
    const millis = String(time.getUTCMilliseconds()).padStart(3, "0");
    if (simulated) return `${time.toISOString().slice(0, 10)} ${time.toISOString().slice(11, 19)}`;
    return `${time.toLocaleTimeString("en-GB")}.${millis}`;
  };

  function line([number, time, type, color, subject, pairs]) {
    const row = make("tr", type ? "" : "srt-gap", "", { tabindex: "-1" });
    row.dataset.number = number;
    row.append(make("td", "", clock(time)));
    if (!type) {
      row.append(make("td", "", pairs[0][1], { colspan: "3" }));
      return row;
    }
    row.setAttribute("aria-expanded", "false");
    const name = row.appendChild(make("td"));
    const swatch = name.appendChild(make("i", "srt-swatch"));
    swatch.style.background = color;
    name.append(type);
    row.append(make("td", "", subject, { title: subject }));
    const data = row.appendChild(make("td"));
    for (const [key, value] of pairs) data.append(make("span", "srt-key", key), ` ${value}  `);
    return row;
  }

  function close() {
    open?.detail.remove();
    open?.row.setAttribute("aria-expanded", "false");
    open = null;
  }

  function toggle(row) {
    const same = open?.row === row;
    close();
    if (same || row.classList.contains("srt-gap")) return flush();
    const detail = make("tr", "srt-detail");
    const cell = detail.appendChild(make("td", "", "", { colspan: "4" }));
    const text = cell.appendChild(make("pre", "", "…"));
    row.after(detail);
    row.setAttribute("aria-expanded", "true");
    open = { row, detail, text, number: Number(row.dataset.number) };
    send({ op: "details", number: open.number });
  }

  function add({ lines: news, skipped }) {
    const nodes = news.map(line);
    if (skipped) nodes.push(make("tr", "srt-skipped"));
    if (skipped) nodes.at(-1).append(make("td", "", `${skipped.toLocaleString("en")} more between these are not shown`, { colspan: "4" }));
    lines.prepend(...nodes);
    while (lines.rows.length > limit && lines.lastChild !== open?.detail) lines.lastChild.remove();
    if (!stop?.isConnected || el.getRootNode().activeElement !== stop) stopAt(lines.querySelector("tr[data-number]"));
    empty.hidden = lines.rows.length > 0;
  }

  /** The Tab key leads to one line; arrows lead from there to the others. */
  function stopAt(row) {
    if (stop) stop.tabIndex = -1;
    stop = row;
    if (stop) stop.tabIndex = 0;
  }

  const hasKeyboard = () => section.querySelector("tr:focus-visible, .srt-fresh:focus-visible") !== null;
  const reading = () => open !== null || scroll.scrollTop > 8 || hasKeyboard();

  function flush() {
    if (!reading()) addHeld();
  }

  function addHeld() {
    held.forEach(add);
    held = [];
    fresh.hidden = true;
  }

  function receive(message) {
    section.classList.toggle("srt-ended", Boolean(message.ended));
    if (message.op === "details") {
      if (open?.number === message.number) open.text.textContent = message.text;
      return;
    }
    note.textContent = message.total ? `${message.total.toLocaleString("en")} seen` : "";
    if (message.filters) {
      types.replaceChildren(new Option("all types", ""), ...message.filters.map((name) => new Option(name, name)));
      types.value = message.type;
      if (el.getRootNode().activeElement !== search) search.value = message.text; // who types is ahead of it
    }
    if (message.op === "reset") {
      close();
      held = [];
      fresh.hidden = true;
      lines.replaceChildren();
      add(message);
      empty.textContent = message.type || message.text ? "No event that is kept here matches: try all types, or another search." : "No event yet.";
      return;
    }
    if (!reading()) {
      addHeld();
      add(message);
      return;
    }
    held.push(message);
    if (held.length > limit) held.shift(); // what fell out of it would not be shown anyway
    const count = held.reduce((sum, { lines: news, skipped }) => sum + news.length + skipped, 0);
    fresh.textContent = `${count.toLocaleString("en")} new ↑`;
    fresh.hidden = count === 0;
  }

  let timer = 0;
  const filter = () => send({ op: "filter", type: types.value, text: search.value });
  types.addEventListener("change", filter);
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(filter, SEARCH_AFTER_MS);
  });
  fresh.addEventListener("click", () => {
    const isByKeyboard = hasKeyboard();
    close();
    scroll.scrollTop = 0;
    addHeld();
    if (isByKeyboard) lines.querySelector("tr[data-number]").focus(); // the button has gone
  });
  scroll.addEventListener("scroll", flush);
  section.addEventListener("focusout", () => setTimeout(flush)); // when it is clear where the focus goes
  lines.addEventListener("focusin", ({ target }) => {
    if (target.matches("tr[data-number]")) stopAt(target);
  });
  lines.addEventListener("click", ({ target }) => {
    const row = target.closest("tr[data-number]");
    if (row) toggle(row);
  });
  lines.addEventListener("keydown", (event) => {
    const row = event.target.closest("tr[data-number]");
    if (!row) return;
    const beside = (name) => {
      let other = row[name];
      while (other && !other.dataset.number) other = other[name];
      other?.focus();
    };
    if (event.key === "Enter" || event.key === " ") toggle(row);
    else if (event.key === "ArrowDown") beside("nextElementSibling");
    else if (event.key === "ArrowUp") beside("previousElementSibling");
    else if (event.key === "Escape" && open) {
      close();
      flush();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });

  return { receive, destroy: () => clearTimeout(timer) };
}

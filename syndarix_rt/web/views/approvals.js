/** What waits for a decision, with buttons. `send` gets {op: "decide", approval, decision}. */

import { frame, make, setText } from "./frame.js";

export function createView(el, { title }, send) {
  const { section, note, body } = frame(el, title, "srt-approvals");
  const empty = body.appendChild(make("p", "srt-empty", "Nothing waits for a decision. Questions appear here, with buttons to answer them."));
  const list = body.appendChild(make("ul", "srt-inbox srt-scroll"));
  const rows = new Map(); // by id, so that a button keeps the focus while others come and go

  function decide(id, decision) {
    send({ op: "decide", approval: id, decision });
    const row = rows.get(id);
    for (const button of row.buttons) button.disabled = true;
    row.state.textContent = "on its way …";
  }

  function build(id) {
    const item = make("li");
    const text = item.appendChild(make("div", "srt-question"));
    const row = {
      item,
      title: text.appendChild(make("strong")),
      kind: text.appendChild(make("span", "srt-kind")),
      about: text.appendChild(make("div", "srt-about")),
      waited: text.appendChild(make("div", "srt-waited")),
    };
    const actions = item.appendChild(make("div", "srt-actions"));
    const yes = actions.appendChild(make("button", "srt-yes", "Approve", { type: "button" }));
    const no = actions.appendChild(make("button", "srt-no", "Reject", { type: "button" }));
    yes.addEventListener("click", () => decide(id, "approved"));
    no.addEventListener("click", () => decide(id, "rejected"));
    row.buttons = [yes, no];
    row.state = actions.appendChild(make("span", "srt-answer", "", { role: "status" }));
    rows.set(id, row);
    return row;
  }

  function receive({ pending, count, uncertain, ended }) {
    section.classList.toggle("srt-ended", Boolean(ended));
    const words = [count > pending.length ? `${pending.length} of ${count} waiting` : `${count} waiting`];
    if (uncertain) words.push("asking the server …");
    note.textContent = count || uncertain ? words.join(" · ") : "";
    empty.hidden = count > 0;
    const ids = new Set(pending.map(({ id }) => id));
    for (const [id, row] of rows) {
      if (ids.has(id)) continue;
      row.item.remove();
      rows.delete(id);
    }
    pending.forEach(({ id, title, kind, about, since, waited, decided, error }, place) => {
      const row = rows.get(id) ?? build(id);
      setText(row.title, title);
      setText(row.kind, kind);
      setText(row.about, about);
      setText(row.waited, `waits for ${waited}`);
      row.waited.title = `since ${since}`;
      row.buttons[0].setAttribute("aria-label", `Approve ${title}`);
      row.buttons[1].setAttribute("aria-label", `Reject ${title}`);
      for (const button of row.buttons) button.disabled = Boolean(decided || ended);
      setText(row.state, error || (decided ? `${decided}, on its way …` : ""));
      row.state.classList.toggle("srt-bad", Boolean(error));
      if (list.children[place] !== row.item) list.insertBefore(row.item, list.children[place] ?? null);
    });
  }

  return { receive };
}

/** Breakpoints of a run, and a look inside it. `send` gets {op: "break", type, where}, {op: "clear"} and {op: "inspect", entity}. */

import { frame, make, setText, submitOnEnter } from "./frame.js";

export function createView(el, { title, entities }, send) {
  const { section, note, body } = frame(el, title, "srt-debug");

  function form(label, submit, ...inputs) {
    const node = body.appendChild(make("form", "srt-row"));
    node.append(...inputs);
    node.append(make("button", "", label));
    submitOnEnter(node);
    node.addEventListener("submit", (event) => {
      event.preventDefault();
      submit();
    });
    return node;
  }

  const input = (label, placeholder) =>
    make("input", "", "", { "aria-label": label, placeholder, autocomplete: "off", spellcheck: "false" });
  const type = input("Stop at events of type", "pipeline_failed, agent_*");
  const where = input("under the condition", "where, such as data.attempt > 1");
  const stops = form("Stop there", () => send({ op: "break", type: type.value.trim(), where: where.value.trim() }), type, where);
  const clear = stops.appendChild(make("button", "", "Clear", { type: "button" }));
  clear.addEventListener("click", () => send({ op: "clear" }));
  const points = body.appendChild(make("ul", "srt-gaps"));
  const entity = make("select", "", "", { "aria-label": "Look at" });
  entity.append(...entities.map((name) => new Option(name, name)));
  form("Look at it", () => send({ op: "inspect", entity: entity.value }), entity);
  const found = body.appendChild(make("pre", "srt-found", "", { tabindex: "0", role: "status" }));
  found.hidden = true;

  function receive({ status, breakpoints, text, error, ended }) {
    section.classList.toggle("srt-ended", Boolean(ended));
    for (const control of body.querySelectorAll("form *")) control.disabled = Boolean(ended);
    setText(note, status);
    points.replaceChildren(
      ...breakpoints.map(({ type: name, where: condition }) =>
        make("li", "", [name && `stops at ${name}`, condition && `where ${condition}`].filter(Boolean).join(" ")),
      ),
    );
    found.hidden = !(error || text);
    setText(found, error || text);
    found.classList.toggle("srt-bad", Boolean(error));
  }

  return { receive };
}

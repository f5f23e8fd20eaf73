/** What people and agents say. `send` gets {op: "say", text, to} and {op: "typing"}. */

import { frame, make, setText, submitOnEnter } from "./frame.js";

export function createView(el, { title }, send) {
  const { section, note, body } = frame(el, title, "srt-chat");
  const empty = body.appendChild(make("p", "srt-empty", "Nothing has been said yet."));
  const list = body.appendChild(make("ol", "srt-messages srt-scroll", "", { "aria-live": "polite", tabindex: "0" }));
  const form = body.appendChild(make("form", "srt-row"));
  const to = form.appendChild(make("select", "", "", { "aria-label": "To" }));
  const text = form.appendChild(make("input", "", "", { "aria-label": "Message", placeholder: "Say something", autocomplete: "off" }));
  form.append(make("button", "srt-yes", "Send"));
  const nodes = new Map(); // by the key of a message

  submitOnEnter(form);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const said = text.value.trim();
    if (said && send({ op: "say", text: said, to: to.value }) !== false) text.value = "";
  });
  text.addEventListener("input", () => send({ op: "typing" }));

  function show({ key, from, to: whom, words, isMine, isOpen, error }) {
    let item = nodes.get(key);
    if (!item) {
      item = list.appendChild(make("li"));
      item.append(make("strong"), make("span", "srt-whom"), make("p"));
      nodes.set(key, item);
    }
    const [name, address, said] = item.children;
    setText(name, from);
    setText(address, whom === "all" ? "" : `to ${whom}`);
    setText(said, error ? `${words} (${error})` : words);
    item.classList.toggle("srt-mine", isMine);
    item.classList.toggle("srt-open", isOpen);
  }

  /** `messages` are all that are kept, oldest first; `members` who is here; `ended`: nothing can be said any more. */
  function receive({ messages, members, status, ended }) {
    for (const control of form.elements) control.disabled = Boolean(ended);
    section.classList.toggle("srt-ended", Boolean(status));
    note.textContent = status || (members.length === 1 ? "nobody else is here" : `${members.length} here`);
    note.title = members.join(", ");
    empty.hidden = messages.length > 0;
    list.hidden = !messages.length;
    const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    const keys = new Set(messages.map(({ key }) => key));
    for (const [key, node] of nodes) {
      if (keys.has(key)) continue;
      node.remove();
      nodes.delete(key);
    }
    messages.forEach(show);
    if (isAtEnd) list.scrollTop = list.scrollHeight;
    const names = ["all", ...members];
    if ([...to.options].map(({ value }) => value).join("\n") !== names.join("\n")) {
      const chosen = to.value;
      to.replaceChildren(...names.map((name) => new Option(name === "all" ? "to everybody" : `to ${name}`, name)));
      to.value = names.includes(chosen) ? chosen : "all";
    }
  }

  return { receive };
}

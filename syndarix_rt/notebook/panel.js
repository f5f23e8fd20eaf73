// What the panels share. Text that comes from events is only ever shown as text, never as HTML.

const ASK_AGAIN_MS = 1000; // a kernel that is busy answers late; asking more often would not help

/** Receive numbered messages; whoever misses one asks for everything. Returns what stops it. */
function listen(model, receive) {
  let next = null; // number of the message that must come; null: a reset
  let asked = -Infinity;

  function ask() {
    if (performance.now() - asked < ASK_AGAIN_MS) return;
    asked = performance.now();
    model.send({ op: "ready" });
  }

  function take(message) {
    if (message.op !== "reset" && message.seq !== next) {
      next = null;
      ask();
      return;
    }
    next = message.seq + 1;
    receive(message);
  }

  model.on("msg:custom", take);
  ask();
  return () => model.off("msg:custom", take);
}

/** An element with a class, attributes and a text. */
function make(tag, className = "", text = "", attributes = {}) {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

/** The frame of a panel: a section with a heading, a note beside it, and a body. */
function frame(el, title, className) {
  const section = make("section", `srt-panel ${className}`, "", { "aria-label": title });
  const head = section.appendChild(make("header"));
  head.append(make("h3", "", title));
  const note = head.appendChild(make("span", "srt-note"));
  const body = section.appendChild(make("div", "srt-body"));
  // Keys pressed here are not JupyterLab's.
  section.setAttribute("data-lm-suppress-shortcuts", "true");
  el.append(section);
  return { section, head, note, body };
}

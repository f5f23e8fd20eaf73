/**
 * What the views share. A view is made by `createView(el, options, send)`, which returns {receive, destroy?}: `receive`
 * shows a state, `send` is called with what a person does.
 *
 * The page imports these modules; a notebook joins the text of one of them with this one's. So they know nothing of
 * where their states come from. Text that comes from events is only ever shown as text, never as HTML.
 */

/** An element with a class, attributes and a text. */
export function make(tag, className = "", text = "", attributes = {}) {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

/** Change a text; not to the same one, which a screen reader would say again, and where a selection would be lost. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Have the Enter key submit a form: in JupyterLab it does not by itself. */
export function submitOnEnter(form) {
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing || event.target.tagName !== "INPUT") return;
    event.preventDefault();
    form.requestSubmit();
  });
}

/** The frame of a panel: a section with a heading, a note beside it, and a body. */
export function frame(el, title, className) {
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

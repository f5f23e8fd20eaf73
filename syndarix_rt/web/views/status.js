/** One line: how the stream stands, and what else is to be said. */

import { make, setText } from "./frame.js";

export function createView(el, { axes }, send) {
  const line = make("p", "srt-panel srt-status", "", { role: "status", "aria-live": "off" });
  const dot = line.appendChild(make("i", "srt-dot"));
  const words = line.appendChild(make("span"));
  const label = line.appendChild(make("label", "srt-axis", "time "));
  const axis = label.appendChild(make("select", "", "", { "aria-label": "Time axis" }));
  for (const name of axes) axis.append(new Option(name, name));
  axis.addEventListener("change", () => send({ op: "axis", value: axis.value }));
  el.append(line);
  function receive(content) {
    dot.dataset.level = content.level;
    setText(words, content.line);
    axis.value = content.axis;
    axis.disabled = Boolean(content.ended);
  }

  return { receive };
}

/** One line: how the stream stands, and what else is to be said. */

import { make } from "./frame.js";

export function createView(el) {
  const line = make("p", "srt-panel srt-status", "", { role: "status", "aria-live": "off" });
  const dot = line.appendChild(make("i", "srt-dot"));
  const words = line.appendChild(make("span"));
  el.append(line);
  function receive(content) {
    dot.dataset.level = content.level;
    words.textContent = content.line;
  }

  return { receive };
}

/** How the stream stands, in words and figures. */

import { frame, make, setText } from "./frame.js";

export function createView(el, { title }) {
  const { section, note, body } = frame(el, title, "srt-connection");
  const line = body.appendChild(make("p", "srt-state", "", { role: "status" }));
  const dot = line.appendChild(make("i", "srt-dot"));
  const word = line.appendChild(make("strong"));
  const reason = line.appendChild(make("span"));
  const advice = body.appendChild(make("p", "srt-advice"));
  const figures = body.appendChild(make("dl", "srt-figures"));
  const gaps = body.appendChild(make("ul", "srt-gaps", "", { "aria-label": "Gaps" }));
  let toldGaps = "";
  const values = new Map(); // elements by the name of a figure

  function figure([name, value, level]) {
    if (!values.has(name)) {
      const box = figures.appendChild(make("div"));
      box.append(make("dt", "", name));
      values.set(name, box.appendChild(make("dd")));
    }
    setText(values.get(name), value);
    values.get(name).dataset.level = level;
  }

  function receive(content) {
    section.classList.toggle("srt-ended", Boolean(content.ended));
    dot.dataset.level = content.level;
    setText(word, content.word);
    setText(reason, content.reason ? `: ${content.reason}` : "");
    setText(advice, content.advice);
    setText(note, content.position);
    note.title = "position: epoch and offset";
    content.figures.forEach(figure);
    if (String(content.gaps) === toldGaps) return;
    toldGaps = String(content.gaps);
    gaps.replaceChildren(...content.gaps.map((gap) => make("li", "", gap)));
  }

  return { receive };
}

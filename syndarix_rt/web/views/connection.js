/** How the stream stands, in words and figures. */

import { frame, make } from "./frame.js";

export function createView(el, { title }) {
  const { section, note, body } = frame(el, title, "srt-connection");
  const line = body.appendChild(make("p", "srt-state", "", { role: "status" }));
  const dot = line.appendChild(make("i", "srt-dot"));
  const word = line.appendChild(make("strong"));
  const reason = line.appendChild(make("span"));
  const advice = body.appendChild(make("p", "srt-advice"));
  const figures = body.appendChild(make("dl", "srt-figures"));
  const gaps = body.appendChild(make("ul", "srt-gaps", "", { "aria-label": "Gaps" }));

  function receive(content) {
    section.classList.toggle("srt-ended", Boolean(content.ended));
    dot.dataset.level = content.level;
    if (word.textContent !== content.word) word.textContent = content.word; // said when it changes, not each time
    const because = content.reason ? `: ${content.reason}` : "";
    if (reason.textContent !== because) reason.textContent = because;
    advice.textContent = content.advice;
    note.textContent = content.position;
    note.title = "position: epoch and offset";
    figures.replaceChildren(
      ...content.figures.map(([name, value, level]) => {
        const box = make("div");
        box.append(make("dt", "", name), make("dd", "", value, level ? { "data-level": level } : {}));
        return box;
      }),
    );
    gaps.replaceChildren(...content.gaps.map((gap) => make("li", "", gap)));
  }

  return { receive };
}

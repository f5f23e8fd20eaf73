/** Begin a run, and steer it. `send` gets {op, value, …}; see `asked_for` of the notebook's `control.py`. */

import { frame, make, setText } from "./frame.js";

export function createView(el, { title, scenarios, speeds, faults, faultMin }, send) {
  const { section, note, body } = frame(el, title, "srt-control");
  const row = body.appendChild(make("div", "srt-row"));
  row.hidden = !scenarios.length; // where none can be begun, runs are only steered
  const live = body.appendChild(make("div", "srt-row srt-live"));
  const buttons = [];
  let busy = false; // what was asked for is being done
  const ask = (op, value, more = {}) => send({ op, value, ...more });

  function choice(parent, label, options, first = null) {
    const wrap = parent.appendChild(make("label", "", label));
    const select = wrap.appendChild(make("select", "", "", { "aria-label": label }));
    if (first) select.append(new Option(first, ""));
    for (const [value, text, hint] of options) {
      const option = new Option(text, value);
      if (hint) option.title = hint;
      select.append(option);
    }
    return select;
  }

  function button(parent, text, className, act) {
    const node = parent.appendChild(make("button", className, text, { type: "button" }));
    node.addEventListener("click", () => busy || act());
    buttons.push(node);
    return node;
  }

  const scenario = choice(row, "scenario", scenarios.map(([name, hint]) => [name, name, hint]));
  if (scenarios.some(([name]) => name === "demo_small")) scenario.value = "demo_small";
  const speed = choice(scenarios.length ? row : live, "speed", speeds, scenarios.length ? "the scenario's own" : "as it is");
  const play = button(row, "Play", "srt-yes", () => ask("play", scenario.value, { speed: speed.value }));
  const stop = button(row, "Stop", "", () => ask("stop", null));
  const hint = row.appendChild(make("span", "srt-note"));

  const pause = button(live, "Pause", "", () => ask(pause.dataset.op, null)); // or resume: it is where the focus is
  const steering = [
    ["step", button(live, "Step 1", "", () => ask("step", 1))],
    ["step", button(live, "Step 100", "", () => ask("step", 100))],
  ];
  live.append(make("span", "srt-faults", `faults of ${faultMin} simulated minutes`));
  for (const [kind, text] of faults) {
    const node = button(live, text, "srt-fault", () => ask("inject", kind));
    node.setAttribute("aria-label", `Inject ${text}`);
    steering.push(["inject", node]);
  }
  const answer = live.appendChild(make("span", "srt-answer", "", { role: "status" }));

  const tell = () => {
    hint.textContent = scenarios.find(([name]) => name === scenario.value)?.[1] ?? "";
  };
  scenario.addEventListener("change", tell);
  tell();
  let steerable = false;
  speed.addEventListener("change", () => {
    if (steerable && speed.value) ask("set_speed", speed.value);
  });

  let last = ""; // the scenario that was begun last
  function receive({ status, playing, abilities, doing, error, ended, begun }) {
    if (begun && begun !== last) {
      [last, scenario.value] = [begun, begun];
      tell();
    }
    section.classList.toggle("srt-ended", Boolean(ended));
    setText(note, status);
    note.title = status;
    busy = Boolean(doing);
    for (const node of buttons) node.ariaDisabled = busy ? "true" : null; // one that is `disabled` would lose the focus
    play.disabled = Boolean(ended);
    setText(play, playing ? "Play anew" : "Play");
    stop.disabled = ended || !playing;
    steerable = playing && abilities.includes("set_speed");
    pause.dataset.op = abilities.includes("resume") ? "resume" : "pause";
    setText(pause, pause.dataset.op === "resume" ? "Resume" : "Pause");
    for (const [ability, node] of [[pause.dataset.op, pause], ...steering]) {
      node.disabled = ended || !abilities.includes(ability);
    }
    setText(answer, error || (doing ? `${doing.replace("_", " ")} …` : ""));
    answer.classList.toggle("srt-bad", Boolean(error));
  }

  return { receive };
}

/** The page's charts, on the time axis that is chosen: when another is, what is kept is counted once more. */

import { makeCharts } from "../panels/catalogue.js";
import { Timeline } from "../panels/timeline.js";
import { ChartPanel } from "./chart-panel.js";

const WINDOW_S = { wall: 60, simulated: 3600 }; // a bar a second is wide enough to be read; at speed 60 both show as much
const KEPT = 10_000; // events that are counted again; as many as the log has

export class Charts {
  /**
   * @param {object[]} types series of the events by type, as of types.json
   * @param {HTMLSelectElement} axis "wall" or "simulated"; the page has an element for each chart, by its name
   */
  constructor(types, axis) {
    this.types = types;
    this.axis = axis;
    this.kept = []; // what came, oldest first: {event, offset, now}, or of a gap {label, now}
    this.panels = [];
    if (location.hash === "#simulated") axis.value = "simulated";
    this.begin();
    axis.addEventListener("change", () => {
      // A link shows what its sender saw.
      history.replaceState(null, "", axis.value === "wall" ? location.pathname : `#${axis.value}`);
      this.begin();
    });
  }

  begin() {
    const isSimulated = this.axis.value === "simulated";
    const charts = makeCharts(this.types, { isSimulated, windowS: WINDOW_S[this.axis.value] });
    this.timeline = new Timeline([...charts.values()].map(({ model }) => model), { isSimulated });
    for (const item of this.kept) this.count(item);
    for (const panel of this.panels) panel.destroy();
    this.panels = [...charts].map(([name, made]) => new ChartPanel(document.getElementById(name), made));
    this.draw();
  }

  /** An event, or a gap, came. */
  add(item) {
    this.count(item);
    this.kept.push(item);
    if (this.kept.length >= 2 * KEPT) this.kept.splice(0, KEPT); // one by one would move them all each time
  }

  count({ event, offset, label, now }) {
    if (event) this.timeline.add(event, offset, now);
    else this.timeline.gap(now, label);
  }

  draw() {
    const end = this.timeline.now(Date.now() / 1000);
    if (!document.hidden && !Number.isNaN(end)) for (const panel of this.panels) panel.push(end);
  }
}

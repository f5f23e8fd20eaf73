/** A chart of the page: what its model has counted since the last time goes to the canvas. */

import { createChart } from "../chart.js";

export class ChartPanel {
  constructor(el, { model, options }) {
    this.model = model;
    this.chart = createChart(el, options);
    this.version = 0; // of the model, as of the last push
    this.now = NaN;
    this.names = "";
    this.span = null;
    this.told = new WeakSet(); // gaps
    this.newest = null; // of them
  }

  destroy() {
    this.chart.destroy();
  }

  /** Draw what has changed; the axis ends at `now` at least. */
  push(now) {
    const { model, chart } = this;
    const names = (model.lanes ?? []).join("\n");
    const span = model.span ?? null;
    const hasMoved = this.newest && !model.gaps.some(({ from }) => from === this.newest.from); // the chart's key
    if (names !== this.names || now < this.now || hasMoved) {
      // Numbers of lanes have another meaning now, time began anew, or a gap is elsewhere.
      const gaps = model.gaps.map(({ from, to, label }) => [from, to, label]);
      chart.reset({ lanes: model.lanes, rows: model.rows(), gaps, span, now });
      for (const gap of model.gaps) this.told.add(gap);
    } else {
      if (String(span) !== String(this.span)) chart.span(...(span ?? []));
      chart.push(model.rows(this.version), now);
      for (const gap of model.gaps) {
        if (this.told.has(gap)) continue;
        this.told.add(gap);
        chart.gap(gap.from, gap.to, gap.label);
      }
    }
    [this.version, this.now, this.names, this.span] = [model.version, now, names, span];
    this.newest = model.gaps.at(-1) ?? null;
  }
}

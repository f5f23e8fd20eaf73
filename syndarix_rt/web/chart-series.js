/** Values over time, which share their times: stacked bars, stacked areas and lines. */

import { formatValue } from "./chart-axes.js";
import { Rows } from "./chart-rows.js";

const HUGE = 1e300; // a stack of some of those is still a number
const NOTHING = 1e-12; // an axis that ends below this is one of zeros
const TIP_LINES = 12; // more would not fit beside a chart

export class Series {
  /** @param {object} settings of `createChart`: kind, binS, capacity, unit */
  constructor(settings) {
    this.settings = settings;
    this.isStacked = settings.kind !== "lines";
    this.lines = [];
    this.rows = new Rows(1, 1);
  }

  begin(lines) {
    this.lines = lines;
    this.rows = new Rows(this.settings.capacity, lines.length + 1);
  }

  put(table) {
    const { width } = this.rows;
    for (let offset = 0; offset + width <= table.length; offset += width) {
      this.rows.put(table, offset);
      this.lines.forEach((line, k) => {
        if (table[offset + 1 + k]) line.seen ||= Number.isFinite(table[offset + 1 + k]);
      });
    }
  }

  get oldest() {
    return this.rows.length ? this.rows.time(0) : NaN;
  }

  get newest() {
    return this.rows.length ? this.rows.time(this.rows.length - 1) : NaN;
  }

  // ---- what is seen --------------------------------------------------------------------------------------------

  /** From now on, until it is called again, `scene` tells the window: {from, to, now, ended, gaps}. */
  look(scene) {
    const { rows } = this;
    this.scene = scene;
    this.first = Math.max(0, rows.before(scene.from));
    const isBefore = (i) => i < rows.length && rows.time(i) < scene.from && this.end(i) <= scene.from;
    if (isBefore(this.first)) this.first += 1;
    this.last = rows.search(scene.to); // exclusive
    const { low, high } = this.range();
    this.low = low;
    this.high = high - low > NOTHING ? high : low + 1;
  }

  /** Whether a row still counts. One that is to come does not: it is a plan. */
  isOpen(i) {
    const { now, ended } = this.scene;
    return this.rows.time(i) <= now && now < this.end(i) && !ended;
  }

  /** Whether a value of a row is drawn; of one that still counts, a line would seem to fall. */
  shows(line, i) {
    return line.visible && (this.settings.kind === "bars" || Boolean(line.dash) || !this.isOpen(i));
  }

  value(i, k) {
    const v = this.rows.get(i, k + 1);
    return Number.isFinite(v) ? Math.max(this.isStacked ? 0 : -HUGE, Math.min(v, HUGE)) : NaN;
  }

  /** Whether a line may join row i to the one before. */
  isJoined(i) {
    if (i === 0) return false;
    const { binS } = this.settings;
    const [a, b] = [this.rows.time(i - 1), this.rows.time(i)];
    return b - a <= 1.5 * binS && !this.scene.gaps.some((gap) => gap.from < b + binS / 2 && gap.to > a + binS / 2);
  }

  /** Where what a row tells ends. */
  end(i) {
    return this.rows.time(i) + this.settings.binS;
  }

  /** The lowest and the highest value, or stack of values, that is seen; zero is between them. */
  range() {
    let [low, high] = [0, 0];
    for (let i = this.first; i < this.last; i += 1) {
      let sum = 0;
      this.lines.forEach((line, k) => {
        const v = this.shows(line, i) ? this.value(i, k) : NaN;
        if (Number.isNaN(v)) return;
        sum = this.isStacked ? sum + v : v;
        high = Math.max(high, sum);
        low = Math.min(low, sum);
      });
    }
    return { low, high };
  }

  readout() {
    const series = this.lines.map((line, k) => {
      const points = [];
      for (let i = this.first; i < this.last; i += 1) {
        if (this.shows(line, i) && !Number.isNaN(this.value(i, k))) points.push([this.rows.time(i), this.value(i, k)]);
      }
      return { name: line.name, visible: line.visible, points };
    });
    return { series };
  }

  // ---- drawing -------------------------------------------------------------------------------------------------

  draw(pen) {
    if (this.settings.kind === "bars") this.drawBars(pen);
    else this.drawLines(pen);
  }

  drawBars({ context, x, y, crisp, ratio, strength }) {
    const { binS } = this.settings;
    const bases = new Float64Array(this.last - this.first); // where each row's next value starts
    const air = x(binS) - x(0) >= 4 ? 1 / ratio : 0; // between neighbours, where there is room
    this.lines.forEach((line, k) => {
      if (!line.visible || !line.seen) return;
      context.fillStyle = line.color;
      for (let i = this.first; i < this.last; i += 1) {
        const v = this.value(i, k);
        if (!(v > 0)) continue;
        const left = crisp(x(this.rows.time(i)));
        const right = Math.max(crisp(x(this.rows.time(i) + binS)) - air, left + 1 / ratio);
        const [low, high] = [crisp(y(bases[i - this.first])), crisp(y(bases[i - this.first] + v))];
        bases[i - this.first] += v;
        context.globalAlpha = strength * (this.isOpen(i) ? 0.55 : 1);
        context.fillRect(left, high, right - left, low - high);
      }
    });
    context.globalAlpha = 1;
  }

  drawLines({ context, x, y, strength }) {
    const first = Math.max(0, this.first - 1); // lines come from beyond the edges
    const last = Math.min(this.rows.length, this.last + 1);
    const bases = new Float64Array(last - first);
    const { binS } = this.settings;
    context.lineJoin = "round";
    this.lines.forEach((line, k) => {
      if (!line.visible || !line.seen) return;
      context.strokeStyle = context.fillStyle = line.color;
      context.lineWidth = this.isStacked ? 1.25 : 2;
      context.globalAlpha = strength;
      let [top, bottom] = [[], []]; // of rows that may be joined
      const flush = () => {
        if (top.length) paint(context, top, this.isStacked ? bottom : null, line.dash);
        [top, bottom] = [[], []];
      };
      for (let i = first; i < last; i += 1) {
        const v = this.value(i, k);
        const isKnown = !Number.isNaN(v) && this.shows(line, i);
        if (!isKnown || !this.isJoined(i)) flush();
        if (!isKnown) continue;
        const base = this.isStacked ? bases[i - first] : 0;
        const t = this.rows.time(i) + binS / 2;
        top.push([x(t), y(base + v)]);
        bottom.push([x(t), y(base)]);
        if (this.isStacked) bases[i - first] += v;
      }
      flush();
    });
    context.globalAlpha = 1;
  }

  /** What the cursor stands on. */
  drawCursor({ context, theme, plot, x, y, crisp, ratio }, { i, t }) {
    const { kind, binS } = this.settings;
    if (kind === "bars" && i !== null) {
      const left = x(this.rows.time(i));
      const width = Math.max(x(this.rows.time(i) + binS) - left, 1);
      context.fillStyle = theme.cursor;
      context.fillRect(left, plot.top, width, plot.bottom - plot.top);
      return;
    }
    context.fillStyle = theme.muted;
    context.fillRect(crisp(x(t)), plot.top, 1 / ratio, plot.bottom - plot.top);
    let base = 0;
    this.lines.forEach((line, k) => {
      const v = i === null || !line.visible || !line.seen ? NaN : this.value(i, k);
      if (Number.isNaN(v)) return;
      base = this.isStacked ? base + v : v;
      context.beginPath();
      context.arc(x(t), y(base), 3.5, 0, 2 * Math.PI);
      context.fillStyle = line.color;
      context.fill();
      context.strokeStyle = theme.paper;
      context.lineWidth = 1.5;
      context.stroke();
    });
  }

  // ---- the cursor ----------------------------------------------------------------------------------------------

  /**
   * What is at a time: {i, t, from, unit, lines: [{name, color, text, total}], note}. `i` is the row, null where nothing is
   * known; `t` is its middle, and it begins at `from`.
   */
  inspect(time) {
    const { binS, unit } = this.settings;
    const i = this.rowAt(time);
    if (i === null) return { i, t: time, from: time, note: "no data", lines: [] };
    const from = this.rows.time(i);
    const known = this.lines
      .filter(({ visible, seen }) => visible && seen)
      .map((line) => ({ ...line, v: this.value(i, this.lines.indexOf(line)) }))
      .filter(({ v }) => (this.isStacked ? v > 0 : !Number.isNaN(v)));
    const sum = known.reduce((total, { v }) => total + v, 0);
    if (this.isStacked) known.reverse(); // as they lie above each other
    else known.sort((a, b) => b.v - a.v);
    const lines = known.map(({ name, color, v }) => ({ name, color, text: formatValue(v) }));
    if (lines.length > TIP_LINES) {
      const cut = known.slice(TIP_LINES - 1);
      const more = this.isStacked ? formatValue(cut.reduce((total, { v }) => total + v, 0)) : "";
      lines.splice(TIP_LINES - 1, Infinity, { name: `${cut.length} more`, color: "", text: more });
    }
    const hasSum = this.isStacked && known.length !== 1;
    if (hasSum) lines.push({ name: "all", color: "", text: formatValue(sum), total: true });
    const note = this.isOpen(i) ? "still counting" : "";
    return { i, t: from + binS / 2, from, unit, lines, note };
  }

  /** The row that covers a time, if it tells anything. */
  rowAt(time) {
    const i = this.rows.before(time);
    const isKnown = i >= 0 && time < this.end(i) && this.lines.some((_, k) => !Number.isNaN(this.value(i, k)));
    return isKnown ? i : null;
  }

  /** The time so many rows after another; that of the first or last row if there are fewer. */
  beside(time, steps) {
    const { rows } = this;
    return rows.length ? rows.time(Math.min(Math.max(rows.before(time) + steps, 0), rows.length - 1)) : NaN;
  }

  // ---- words ---------------------------------------------------------------------------------------------------

  /** The newest values that are known, highest first. */
  latest() {
    let end = this.last - 1;
    while (end >= this.first && (this.isOpen(end) || this.rows.time(end) > this.scene.now)) end -= 1;
    const newest = (k) => {
      let i = end;
      while (i >= this.first && Number.isNaN(this.value(i, k))) i -= 1;
      return i >= this.first ? this.value(i, k) : NaN;
    };
    const values = this.lines
      .map(({ name, visible }, k) => [name, visible ? newest(k) : NaN])
      .filter(([, v]) => v > 0 || v < 0)
      .sort((a, b) => b[1] - a[1])
      .map(([name, v]) => `${name} ${formatValue(v)}`);
    return values.join(", ") || "0";
  }
}

/** A line, or an area between two of them, edged where it has a height. What has no length is a dot, still to be seen. */
function paint(context, top, bottom, isDashed) {
  const alpha = context.globalAlpha;
  const isFlat = (n) => bottom !== null && top[n][1] === bottom[n][1];
  context.beginPath();
  if (top.at(-1)[0] - top[0][0] < 0.5) {
    if (isFlat(0)) return;
    context.arc(top[0][0], top[0][1], 2.5, 0, 2 * Math.PI);
    context.fill();
    return;
  }
  top.forEach(([x, y], n) => {
    if (n > 0 && !(isFlat(n - 1) && isFlat(n))) context.lineTo(x, y);
    else context.moveTo(x, y);
  });
  context.setLineDash(isDashed ? [6, 4] : []);
  context.stroke();
  context.setLineDash([]);
  if (!bottom) return;
  context.beginPath();
  for (const [x, y] of top) context.lineTo(x, y);
  for (let n = bottom.length - 1; n >= 0; n -= 1) context.lineTo(bottom[n][0], bottom[n][1]);
  context.globalAlpha = alpha * 0.75;
  context.fill();
  context.globalAlpha = alpha;
}

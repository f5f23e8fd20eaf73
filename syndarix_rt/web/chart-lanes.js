/**
 * States over time: a lane for each agent or runner, one below the other.
 *
 * A row is (time, lane, state): from that time on the lane is in that state, the number of a series; any other number
 * means that it is not known. Nor is it after a declared gap, until the lane's next row.
 */

import { formatDuration } from "./chart-axes.js";
import { hatch } from "./chart-frame.js";
import { Rows } from "./chart-rows.js";

const LANE_PX = { few: 24, many: 17 };
const MANY = 16; // lanes
const NAME_SHARE = 0.3; // of the width, at most
const NAME_PX = 150; // at most
const MAX_LANES = 40; // below each other they still fit a screen
const LATEST = 12; // lanes that are told in words

export class Lanes {
  /** @param {object} settings of `createChart`: capacity */
  constructor(settings) {
    this.settings = settings;
    this.lines = [];
    this.names = [];
    this.lanes = [];
  }

  begin(lines) {
    this.lines = lines;
    this.lanes = [];
    this.name(this.names);
  }

  /** The lanes by number; more may come later. */
  name(names) {
    this.names = names;
    while (this.lanes.length < Math.min(names.length, MAX_LANES)) this.lanes.push(new Rows(this.settings.capacity, 2));
  }

  put(table) {
    const row = new Float64Array(2);
    for (let offset = 0; offset + 3 <= table.length; offset += 3) {
      const lane = this.lanes[table[offset + 1]];
      if (!lane) continue; // there is no room for it, or it has no name yet
      row[0] = table[offset];
      row[1] = table[offset + 2];
      lane.put(row, 0);
      const line = this.lines[row[1]];
      if (line) line.seen = true;
    }
  }

  get oldest() {
    return Math.min(...this.lanes.filter((rows) => rows.length).map((rows) => rows.time(0)));
  }

  get newest() {
    return Math.max(...this.lanes.filter((rows) => rows.length).map((rows) => rows.time(rows.length - 1)));
  }

  // ---- what is seen --------------------------------------------------------------------------------------------

  look(scene) {
    this.scene = scene;
  }

  get more() {
    return this.names.length - this.lanes.length;
  }

  get laneHeight() {
    return this.lanes.length > MANY ? LANE_PX.many : LANE_PX.few;
  }

  /** What the plot needs below each other. */
  get height() {
    return this.laneHeight * (Math.max(this.lanes.length, 2) + (this.more > 0 ? 1 : 0));
  }

  /** What is left of it for names. */
  gutter(context, width) {
    const widest = Math.max(0, ...this.names.slice(0, MAX_LANES).map((name) => context.measureText(name).width));
    return Math.min(widest, NAME_PX, width * NAME_SHARE);
  }

  /**
   * A lane between two times, without what was before its first row.
   *
   * @returns {{state, from, to, since, until}[]} state null: unknown; the last two not cut off at the ends
   */
  spans(lane, from, to) {
    const rows = this.lanes[lane];
    const until = Math.min(to, this.scene.now);
    const spans = [];
    const add = (state, a, b) => {
      const [start, end] = [Math.max(a, from), Math.min(b, until)];
      if (!(start < end)) return;
      const last = spans.at(-1);
      if (last?.state === state && last.until === a) Object.assign(last, { to: end, until: b });
      else spans.push({ state, from: start, to: end, since: a, until: b });
    };
    if (rows.dropped) add(null, -Infinity, rows.time(0));
    for (let i = Math.max(0, rows.before(from)); i < rows.length; i += 1) {
      const end = i + 1 < rows.length ? rows.time(i + 1) : Infinity;
      let known = rows.time(i);
      if (known >= until) break;
      for (const gap of this.scene.gaps) {
        if (gap.from < known && known < gap.to) {
          add(null, known, Math.min(gap.to, end));
          known = Math.min(gap.to, end);
        }
      }
      const isIn = ({ from, to }) => from >= known && to > known; // one without a length hides nothing that begins there
      const lost = Math.min(end, ...this.scene.gaps.filter(isIn).map((gap) => gap.from));
      add(this.lines[rows.get(i, 1)] ? rows.get(i, 1) : null, known, lost);
      add(null, lost, end);
    }
    return spans;
  }

  readout() {
    const { from, to } = this.scene;
    return {
      series: this.lines.map(({ name, visible }) => ({ name, visible })),
      lanes: this.lanes.map((_, lane) => ({
        name: this.names[lane],
        spans: this.spans(lane, from, to)
          .filter(({ state }) => state === null || this.lines[state].visible)
          .map((span) => ({ state: this.lines[span.state]?.name ?? null, from: span.from, to: span.to })),
      })),
    };
  }

  // ---- drawing -------------------------------------------------------------------------------------------------

  top(plot, lane) {
    return plot.top + lane * this.laneHeight;
  }

  draw(pen) {
    const { context, plot, x, crisp, ratio, strength } = pen;
    const { from, to } = this.scene;
    const room = this.laneHeight - (this.laneHeight > LANE_PX.many ? 6 : 4);
    this.lanes.forEach((_, lane) => {
      const bottom = crisp(this.top(plot, lane) + (this.laneHeight + room) / 2);
      const short = []; // too short to be seen; painted last, and a pixel wide
      const box = ({ state, from: a, to: b }) => {
        const height = room * (this.lines[state].size ?? 1);
        const left = crisp(x(a));
        context.fillStyle = this.lines[state].color;
        context.fillRect(left, bottom - height, Math.max(crisp(x(b)) - left, 1), height);
      };
      for (const span of this.spans(lane, from, to)) {
        if (span.state === null) hatch(pen, crisp(x(span.from)), crisp(x(span.to)), bottom - room, bottom);
        else if (!this.lines[span.state].visible) continue;
        else if (crisp(x(span.to)) - crisp(x(span.from)) < 1 / ratio) short.push(span);
        else {
          context.globalAlpha = strength;
          box(span);
        }
      }
      context.globalAlpha = strength;
      short.forEach(box);
      context.globalAlpha = 1;
    });
  }

  drawAxis({ context, theme, plot, crisp, ratio }) {
    context.textAlign = "left";
    context.textBaseline = "middle";
    const room = plot.left - 8;
    this.lanes.forEach((_, lane) => {
      const top = this.top(plot, lane);
      context.fillStyle = theme.grid;
      context.fillRect(0, crisp(top), plot.right, 1 / ratio);
      context.fillStyle = theme.ink;
      context.fillText(shortened(context, this.names[lane], room), 0, top + this.laneHeight / 2 + 0.5);
    });
    if (this.more <= 0) return;
    context.fillStyle = theme.muted;
    const y = this.top(plot, this.lanes.length) + this.laneHeight / 2;
    context.fillText(`${this.more} more ${this.more === 1 ? "lane" : "lanes"} without room`, 0, y);
  }

  drawCursor({ context, theme, plot, x, ratio, crisp }, { t, lane }) {
    context.fillStyle = theme.muted;
    context.fillRect(crisp(x(t)), plot.top, 1 / ratio, plot.bottom - plot.top);
    if (lane === null) return;
    context.strokeStyle = theme.muted;
    context.lineWidth = 1;
    const top = crisp(this.top(plot, lane));
    context.strokeRect(plot.left + 0.5, top + 0.5, plot.right - plot.left - 1, this.laneHeight - 1);
  }

  // ---- the cursor ----------------------------------------------------------------------------------------------

  /** The lane at a height within the plot; the nearest one. */
  laneAt(y) {
    return this.lanes.length ? Math.max(0, Math.min(Math.floor(y / this.laneHeight), this.lanes.length - 1)) : null;
  }

  /** What is at a time: {t, lane, title, lines: [{name, color, text}], note}. */
  inspect(t, lane, clock) {
    if (lane === null) return { t, lane, note: "no data", lines: [] };
    const title = this.names[lane];
    const span = this.spans(lane, -Infinity, Infinity).find((each) => each.from <= t && t < each.to);
    if (!span) return { t, lane, title, note: "no data", lines: [] };
    const line = this.lines[span.state];
    const isOpen = span.until > this.scene.now && !this.scene.ended;
    const long = Number.isFinite(span.since) ? formatDuration(span.to - span.since) : "";
    const since = Number.isFinite(span.since) ? `since ${clock.full(span.since)}` : "too long ago to be kept";
    const lines = [{ name: line?.name ?? "unknown", color: line?.color ?? "", text: long }];
    return { t, lane, title, lines, note: isOpen ? `${since}, still` : since };
  }

  /** The time of the change of state so many after another. */
  beside(time, steps, lane) {
    const rows = this.lanes[lane];
    if (!rows?.length) return NaN;
    const i = rows.before(time);
    const there = i >= 0 && steps < 0 && rows.time(i) < time ? i + 1 : i;
    return rows.time(Math.min(Math.max(there + steps, 0), rows.length - 1));
  }

  // ---- words ---------------------------------------------------------------------------------------------------

  /** How many lanes are in each state at the end of the window, and which. */
  latest() {
    const { from, to, now } = this.scene;
    const at = Math.min(to, now);
    const states = this.lanes.map((_, lane) => {
      const span = this.spans(lane, from, to).at(-1);
      return span?.to === at ? (this.lines[span.state]?.name ?? "unknown") : null;
    });
    const words = states.map((state, lane) => state && `${this.names[lane]} ${state}`).filter(Boolean);
    const rest = words.length - LATEST;
    return words.length ? `${words.slice(0, LATEST).join(", ")}${rest > 0 ? ` and ${rest} more` : ""}` : "nothing is known";
  }
}

/** As much of a text as there is room for. */
function shortened(context, text, room) {
  if (context.measureText(text).width <= room) return text;
  let [low, high] = [0, text.length];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (context.measureText(`${text.slice(0, middle)}…`).width <= room) low = middle;
    else high = middle - 1;
  }
  return `${text.slice(0, low)}…`;
}

/**
 * What is around and over the content of a chart: axes, gaps, the range that is being selected.
 *
 * A pen is {context, theme, plot: {left, right, top, bottom}, x, y, crisp, ratio}: `x` and `y` tell the place of a time
 * and of a value, `crisp` moves a place onto the grid of device pixels, of which there are `ratio` to a CSS pixel.
 */

import { DAY_S, formatValue } from "./chart-axes.js";

const AIR_PX = 26; // between labels of the time axis
const MIN_TICK_PX = 58; // "day 3", and air around it
const NARROW_PX = 300;
const HATCH_PX = 8;

/** The colours that `chart.css` gives to this place of the page. */
export function readTheme(style) {
  const property = (name) => style.getPropertyValue(`--srt-${name}`).trim();
  return {
    ink: property("ink"),
    paper: property("paper"),
    muted: property("muted"),
    line: property("line"),
    grid: property("grid"),
    gap: property("gap"),
    gapFill: property("gap-fill"),
    cursor: property("cursor"),
    focus: property("focus"),
    font: `11px ${style.fontFamily}`,
  };
}

export function drawValues({ context, theme, plot, crisp, ratio, y }, ticks, unit, hasLabels) {
  context.textBaseline = "middle";
  context.textAlign = "right";
  for (const v of ticks) {
    context.fillStyle = theme.grid;
    context.fillRect(plot.left, crisp(y(v)), plot.right - plot.left, 1 / ratio);
    context.fillStyle = theme.muted;
    if (hasLabels) context.fillText(formatValue(v), plot.left - 7, y(v));
  }
  context.textAlign = "left";
  context.textBaseline = "alphabetic";
  context.fillText(unit, 0, 11);
}

export function drawTimes({ context, theme, plot, crisp, ratio, x }, { from, to }, clock) {
  const width = plot.right - plot.left;
  const zone = clock.zone(to, width < NARROW_PX);
  context.fillStyle = theme.muted;
  context.textBaseline = "top";
  context.textAlign = "right";
  context.fillText(zone, plot.right, plot.bottom + 7);
  const limit = plot.right - context.measureText(zone).width - 12;
  let most = Math.max(1, Math.floor(width / MIN_TICK_PX));
  let { step, times } = clock.ticks(from, to, most);
  const needed = () => times.length * (context.measureText(clock.time(to, step)).width + AIR_PX);
  while (most > 1 && step < DAY_S && needed() > width) {
    most -= 1;
    ({ step, times } = clock.ticks(from, to, most));
  }
  context.textAlign = "center";
  let free = 0; // where there is no label yet
  for (const t of times) {
    context.fillStyle = theme.line;
    context.fillRect(crisp(x(t)), plot.bottom, 1 / ratio, 4);
    context.fillStyle = theme.muted;
    const label = free || step >= DAY_S ? clock.label(t, step) : clock.full(t, step); // the day is told once
    const half = context.measureText(label).width / 2;
    if (x(t) - half < free || x(t) + half > limit) continue;
    context.fillText(label, x(t), plot.bottom + 7);
    free = x(t) + half + AIR_PX / 2;
  }
}

/** Fill a box with what stands for the unknown. */
export function hatch({ context, theme }, left, right, top, bottom) {
  context.save();
  context.beginPath();
  context.rect(left, top, right - left, bottom - top);
  context.clip();
  context.fillStyle = theme.gapFill;
  context.fillRect(left, top, right - left, bottom - top);
  context.strokeStyle = theme.gap;
  context.lineWidth = 1;
  context.beginPath();
  const rise = bottom - top;
  for (let at = left - rise - (left % HATCH_PX); at < right; at += HATCH_PX) {
    context.moveTo(at, bottom);
    context.lineTo(at + rise, top);
  }
  context.stroke();
  context.restore();
}

/** @param {boolean} isAlone whether nothing shall be seen through them */
export function drawGaps(pen, gaps, isAlone) {
  const { context, theme, plot, crisp, x } = pen;
  context.textBaseline = "top";
  context.textAlign = "center";
  for (const { from, to, label } of gaps) {
    const [middle, half] = [x((from + to) / 2), Math.max((x(to) - x(from)) / 2, 1.5)]; // a short one is seen too
    const left = crisp(Math.max(middle - half, plot.left));
    const right = crisp(Math.min(middle + half, plot.right));
    if (right <= plot.left || left >= plot.right) continue;
    if (isAlone) context.clearRect(left, plot.top, right - left, plot.bottom - plot.top);
    hatch(pen, left, right, plot.top, plot.bottom);
    const text = [label, label.split(":")[0]].find((each) => context.measureText(each).width + 8 <= right - left);
    if (!text) continue;
    const { width } = context.measureText(text);
    context.fillStyle = theme.paper;
    context.fillRect((left + right - width) / 2 - 4, plot.top + 5, width + 8, 16);
    context.fillStyle = theme.ink;
    context.fillText(text, (left + right) / 2, plot.top + 8);
  }
}

export function drawSelection({ context, theme, plot }, left, right) {
  context.fillStyle = theme.cursor;
  context.fillRect(left, plot.top, right - left, plot.bottom - plot.top);
  context.fillStyle = theme.focus;
  context.fillRect(left, plot.top, 1, plot.bottom - plot.top);
  context.fillRect(right - 1, plot.top, 1, plot.bottom - plot.top);
}

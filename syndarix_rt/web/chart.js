/**
 * Rolling charts of live time series on Canvas 2D: stacked bars, stacked areas, lines, and states in lanes.
 *
 * One thing for the web page, which loads these modules as static files, and for the notebook, which joins their texts.
 * It has no dependencies and needs `chart.css`, where the colours of the theme live.
 *
 *     const chart = createChart(element, { title: "Events", kind: "bars", unit: "events/s", binS: 1,
 *                                          series: [{ name: "agent_started", color: "#0072B2" }] });
 *     chart.push(new Float64Array([t, v1, …, t, v1, …]), now);
 *
 * Times are seconds since 1970, of the world or of a simulation. What is not known is not drawn: a missing row, a NaN
 * and a declared gap break a line, and nothing is interpolated over them.
 *
 * Here are the element, its window of time and its words. `chart-series.js` and `chart-lanes.js` hold and draw what is
 * in it, `chart-frame.js` draws what is around, `chart-input.js` listens to hands, `chart-tip.js` is the tooltip,
 * `chart-words.js` says it in words, `chart-redraw.js` knows when to draw.
 */

import { Clock, formatValue, valueTicks } from "./chart-axes.js";
import { drawGaps, drawSelection, drawTimes, drawValues, readTheme } from "./chart-frame.js";
import { listen } from "./chart-input.js";
import { Lanes } from "./chart-lanes.js";
import { Redraws } from "./chart-redraw.js";
import { Series } from "./chart-series.js";
import { add, Tip } from "./chart-tip.js";
import { inWords, Label, sentences } from "./chart-words.js";

/** Okabe and Ito (2008), told apart with every kind of colour vision; yellow last, it is faint on white. */
export const PALETTE = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#7F8792", "#B8AB00"];

const MAX_GAPS = 64; // more than a window has room for
const MIN_ROW_PX = 34; // a label of the value axis, and air around it
const MIN_LABEL_PX = 34; // charts below each other begin at the same place, as long as no label is wider
const KEPT_WINDOWS = 5; // rows are kept for so many windows, to look back
const MAX_CAPACITY = 20_000; // rows, whatever the window
const LANE_CAPACITY = 1024; // rows of a lane: more changes of state than a window has pixels
const MIN_BINS = 4; // further in there is nothing to see
const MAX_ZOOM = 100;
const KEY_ZOOM = 2;
const KINDS = { bars: "stacked bars", areas: "stacked areas", lines: "lines", lanes: "states in lanes" };
const KEYS = "Arrow keys move a cursor, plus and minus zoom, Escape returns to live.";

/**
 * Put a chart into an element.
 *
 * @param {HTMLElement} el where; the chart takes its width
 * @param {object} options
 *   series    [{name, color?, dash?, size?, rare?}]: what a row's values are, from the baseline up; of lanes, the
 *             states. Colours default to `PALETTE`. A line with `dash` is dashed: a plan, a target.
 *             `size` is the share of its lane's height that a state fills, 1 by default. The legend has all from the
 *             start, so that nothing moves later; what is `rare` comes to it with its first value
 *   kind      "bars" and "areas" are stacked, "lines" are not; "lanes" are states over time
 *   title     what it shows
 *   unit      of the values, such as "events/s"
 *   whole     values are counted, not measured: no tick lies between two whole numbers
 *   binS      what a row covers, from its time on; rows further apart than that are not joined. Of lanes nothing
 *   windowS   how much time is shown
 *   capacity  how many rows are kept (of each lane)
 *   height    of the canvas, CSS pixels; that of lanes follows their number, and is no less than this if it is given
 *   empty     what an empty chart says
 *   clock     "wall": the browser's zone, "utc", or "simulated": "day 3 14:00"
 *   startS    of a simulated clock: a moment of day 1. Without it, days have dates
 * @returns {{push, reset, lanes, gap, span, end, readout, destroy}}
 *   push(rows, now)           add rows or replace those of the same time; the axis ends at `now` at least. A row is a
 *                             time and one value per series, of stacks none below zero; of lanes (time, lane, state):
 *                             the numbers of a lane and of a series, which it is in from that time on; −1: unknown
 *   reset({lanes, rows, gaps, span, startS, now})   forget everything, and start with this
 *   lanes(["Ada", …])         the names of all lanes by number; later calls may add some at the end
 *   gap(from, to, label)      nothing is known of this span; the same `from` replaces
 *   span(from, to)            show this instead of a rolling window; without `to`, up to now; without any, roll again
 *   end(text)                 fade it and say why
 *   readout()                 what is drawn: {from, to, live, series: [{name, visible, points: [[t, value], …]}],
 *                             gaps: [{from, to, label}]}; of lanes, whose series have no points, also
 *                             {lanes: [{name, spans: [{state, from, to}]}]}, state null: unknown
 *   destroy()                 remove it and everything that it listens to
 */
export function createChart(el, options = {}) {
  const settings = {
    kind: "bars",
    title: "",
    unit: "",
    whole: false,
    binS: 1,
    windowS: 120,
    height: 220,
    empty: "Nothing here yet",
    clock: "wall",
    startS: NaN,
    series: [],
    ...options,
  };
  const hasLanes = settings.kind === "lanes";
  if (hasLanes) settings.binS = 0;
  const { binS, windowS } = settings;
  settings.capacity ??= hasLanes ? LANE_CAPACITY : Math.min(Math.ceil((KEPT_WINDOWS * windowS) / binS) + 2, MAX_CAPACITY);
  let clock = new Clock(settings.clock, settings.startS ?? NaN);
  const content = hasLanes ? new Lanes(settings) : new Series(settings);

  const document = el.ownerDocument;
  const view = document.defaultView;
  const root = document.createElement("figure");
  root.className = "srt-chart";
  root.setAttribute("data-lm-suppress-shortcuts", "true"); // keys pressed here are not JupyterLab's
  const caption = add(root, "figcaption");
  add(caption, "span", "srt-title").textContent = settings.title;
  const note = add(caption, "span", "srt-note");
  const back = add(caption, "button", "srt-back");
  back.type = "button";
  back.hidden = true;
  const canvas = add(root, "canvas");
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application"); // so that a screen reader leaves it the arrow keys
  canvas.setAttribute("aria-roledescription", "chart");
  canvas.setAttribute("aria-description", KEYS);
  const legend = add(root, "div", "srt-legend");
  legend.setAttribute("role", "toolbar"); // the Tab key leads to one of its buttons, arrows to the others
  legend.setAttribute("aria-label", hasLanes ? "States" : "Series");
  const tip = new Tip(root, canvas);
  const said = add(root, "p", "srt-said");
  said.setAttribute("aria-live", "polite");
  el.appendChild(root);
  const context = canvas.getContext("2d");

  let gaps = [];
  let now = NaN;
  let fixed = null; // {from, to} instead of a window that rolls
  let zoomed = null; // {from, to} that a person looks at
  let cursor = null; // {x, y} of a pointer, or {t, lane} that keys have moved
  let selection = null; // [x, x] that is being dragged
  let ended = "";
  let scene = { from: NaN, to: NaN, now, ended: false, gaps }; // what the last drawing shows
  let plot = { left: 0, right: 0, top: 0, bottom: 0 }; // and where

  // ---- data ----------------------------------------------------------------------------------------------------

  const series = settings.series.map((line, i) => ({ color: PALETTE[i % PALETTE.length], ...line, visible: true }));
  for (const line of series) line.button = legendButton(line);
  forget();
  legend.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!steps) return;
    const buttons = series.map(({ button }) => button).filter(({ hidden }) => !hidden);
    const next = buttons.at((buttons.indexOf(event.target) + steps) % buttons.length);
    stopAt(next);
    next.focus();
    event.preventDefault();
  });

  /** Begin without a value; the legend stays, and the focus in it. */
  function forget() {
    for (const line of series) {
      line.seen = false;
      line.button.hidden = Boolean(line.rare);
      line.button.className = "srt-unseen"; // until it has a value
    }
    stopAt(series.find(({ rare }) => !rare)?.button);
    content.begin(series);
  }

  function stopAt(stop) {
    for (const { button } of series) button.tabIndex = button === stop ? 0 : -1;
  }

  function legendButton(line) {
    const button = add(legend, "button");
    button.type = "button";
    button.title = line.name;
    button.setAttribute("aria-pressed", String(line.visible));
    const swatch = add(button, "i", line.dash ? "srt-dash" : "");
    swatch.style.color = line.color;
    add(button, "span").textContent = line.name;
    button.addEventListener("click", () => {
      line.visible = !line.visible;
      button.setAttribute("aria-pressed", String(line.visible));
      redraws.soon();
    });
    return button;
  }

  function see(button) {
    button.hidden = false;
    button.className = "";
  }

  function put(table, at) {
    content.put(table);
    for (const line of series) if (line.seen && line.button.className) see(line.button);
    // Rows may reach into the future where the window does.
    const times = fixed && !Number.isNaN(at) ? [at] : [at, content.newest];
    for (const t of times) if (Number.isFinite(t) && !(t <= now)) now = t; // it never goes back
  }

  function push(table, at = NaN) {
    put(table, at);
    redraws.calmly();
  }

  function reset({ lanes: names, rows: table = [], gaps: spans = [], span: fixedTo, startS, now: at = NaN } = {}) {
    if (startS !== undefined) clock = new Clock(settings.clock, startS ?? NaN);
    now = NaN;
    [ended, gaps, fixed] = ["", [], null];
    forget();
    if (names) lanes(names);
    if (fixedTo) span(...fixedTo);
    put(table, at);
    spans.forEach((each) => gap(...each));
    root.classList.remove("srt-ended");
    redraws.soon();
  }

  function lanes(names) {
    if (hasLanes) content.name([...names]);
    redraws.calmly();
  }

  function gap(from, to, label = "gap") {
    gaps = gaps.filter((each) => each.from !== from);
    gaps.push({ from, to, label });
    if (gaps.length > MAX_GAPS) gaps.shift();
    redraws.calmly();
  }

  function span(from, to) {
    fixed = from === undefined || from === null ? null : { from, to: to ?? NaN };
    redraws.soon();
  }

  function end(text) {
    ended = text;
    root.classList.add("srt-ended");
    label.stop();
    redraws.soon();
  }

  // ---- the window ----------------------------------------------------------------------------------------------

  /** What is shown unless a person looks elsewhere. */
  function live() {
    const to = binS ? Math.floor(now / binS) * binS + binS : now; // whole bins: bars grow in place, then move on
    if (!fixed) return { from: to - windowS, to };
    if (!Number.isNaN(fixed.to)) return fixed;
    return { from: fixed.from, to: Math.max(to, fixed.from + Math.max(binS, 1)) };
  }

  function look() {
    scene = { ...(zoomed ?? live()), now, ended: ended !== "", gaps };
    content.look(scene);
  }

  /** Look at a span: as much of it as there may be something in. */
  function zoom(from, to) {
    const home = live();
    if (Number.isNaN(home.to)) return;
    const earliest = Math.min(Number.isFinite(content.oldest) ? content.oldest : home.from, home.from);
    const least = Math.max((home.to - home.from) / MAX_ZOOM, MIN_BINS * binS, hasLanes ? 1 : 0);
    const size = Math.min(Math.max(to - from, least), home.to - earliest);
    const start = Math.min(Math.max((from + to - size) / 2, earliest), home.to - size);
    const isAll = size >= home.to - home.from && earliest === home.from;
    show(isAll ? null : { from: start, to: start + size });
  }

  function show(there) {
    zoomed = there;
    scene = { ...scene, ...(zoomed ?? live()) }; // there may be more to come before it is drawn
    back.hidden = there === null;
    redraws.soon();
  }

  const isTimeless = () => Number.isNaN(scene.to);
  const timeAt = (x) => scene.from + ((x - plot.left) / (plot.right - plot.left)) * (scene.to - scene.from);
  const placeOf = (t) => plot.left + ((t - scene.from) / (scene.to - scene.from)) * (plot.right - plot.left);

  function zoomAround(t, factor) {
    zoom(t - (t - scene.from) * factor, t + (scene.to - t) * factor);
  }

  // ---- hands ---------------------------------------------------------------------------------------------------

  const deaf = listen(canvas, {
    point(x, y) {
      if (x === null && cursor?.t !== undefined) return; // keys hold it
      cursor = x === null ? null : { x, y };
      redraws.soon();
    },
    select(a, b, isDone) {
      selection = a === null || isTimeless() ? null : [a, b].map(inPlot).sort((one, other) => one - other);
      if (selection && isDone) {
        zoom(...selection.map(timeAt));
        selection = null;
      }
      redraws.soon();
    },
    zoom(x, factor) {
      if (!isTimeless()) zoomAround(timeAt(inPlot(x)), factor);
    },
    pan(px) {
      const t = timeAt(plot.left + px) - scene.from;
      if (zoomed && Number.isFinite(t)) zoom(scene.from + t, scene.to + t);
    },
    live() {
      show(null);
    },
    key: pressed,
    blur() {
      cursor = null;
      said.textContent = "";
      redraws.soon();
    },
  });
  back.addEventListener("click", () => {
    show(null);
    canvas.focus();
  });

  function inPlot(x) {
    return Math.min(Math.max(x, plot.left), plot.right);
  }

  /** Where the cursor is: {t, lane}; null: nowhere. */
  function pointed() {
    if (!cursor || isTimeless()) return null;
    if (cursor.t !== undefined) return cursor;
    if (cursor.x < plot.left || cursor.x > plot.right || cursor.y > plot.bottom || cursor.y < plot.top) return null;
    return { t: timeAt(cursor.x), lane: hasLanes ? content.laneAt(cursor.y - plot.top) : null };
  }

  /** A key that `listen` knows; whether it had an effect. */
  function pressed(name, steps) {
    readout(); // what is drawn may be older than the data
    if (name === "escape") {
      const isUsed = zoomed !== null || cursor !== null;
      if (zoomed) said.textContent = "Back to live.";
      cursor = null;
      show(null);
      return isUsed;
    }
    if (isTimeless()) return false;
    const at = pointed();
    if (name === "in" || name === "out") {
      const isInside = at && at.t >= scene.from && at.t <= scene.to;
      const here = zoomed ? (scene.from + scene.to) / 2 : scene.to;
      zoomAround(isInside ? at.t : here, name === "in" ? 1 / KEY_ZOOM : KEY_ZOOM);
      look();
      said.textContent = zoomed ? `Zoomed, ${period()}.` : "All is shown.";
      return true;
    }
    const isVertical = name === "up" || name === "down";
    if (isVertical && !hasLanes) return false;
    const last = Math.min(scene.to - (binS ? binS / 2 : 0), now);
    let lane = at?.lane ?? (hasLanes ? content.laneAt(0) : null);
    let t = at?.t ?? content.beside(last, 0, lane);
    if (isVertical && at) lane = content.laneAt((lane + (name === "up" ? -steps : steps)) * content.laneHeight);
    if (name === "left" && at) t = content.beside(t, -steps, lane);
    if (name === "right" && at) t = content.beside(t, steps, lane);
    if (name === "end") t = content.beside(last, 0, lane);
    if (name === "home") {
      t = content.beside(scene.from, 0, lane);
      if (t < scene.from) t = content.beside(scene.from, 1, lane);
    }
    if (!Number.isFinite(t)) return false;
    cursor = { t, lane };
    const off = t < scene.from ? t - scene.from : Math.max(0, t + binS - scene.to);
    if (off) zoom(scene.from + off, scene.to + off);
    look();
    said.textContent = inWords(inspect(cursor));
    redraws.soon();
    return true;
  }

  // ---- the tooltip ---------------------------------------------------------------------------------------------

  /** What is to be read at the cursor: {t, time, title, unit, lines: [{name, color, text, total}], note}. */
  function inspect(at) {
    const found = content.inspect(at.t, at.lane, clock);
    const here = gaps.find((each) => each.from <= at.t && at.t < each.to);
    return {
      ...found,
      time: clock.full(hasLanes ? at.t : found.from, binS % 1 ? 0.1 : 1),
      note: here ? here.label : found.note,
    };
  }

  // ---- drawing -------------------------------------------------------------------------------------------------

  function draw() {
    const least = hasLanes ? content.height + 30 : 0;
    const wanted = Math.max(least, hasLanes ? (options.height ?? 0) : settings.height);
    if (canvas.style.height !== `${wanted}px`) canvas.style.height = `${wanted}px`;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    const ratio = view.devicePixelRatio || 1;
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    look();
    if (!w || !h) return; // not laid out; the resize observer will tell
    if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
    const theme = readTheme(view.getComputedStyle(root));
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = theme.font;

    plot = { left: 0, right: width - 10, top: hasLanes ? 4 : 24, bottom: height - 22 };
    const crisp = (v) => Math.round(v * ratio) / ratio; // an edge on the grid of device pixels
    let ticks = [];
    if (hasLanes) {
      plot.left = Math.ceil(content.gutter(context, width)) + 10;
    } else {
      const most = Math.max(2, Math.floor((plot.bottom - plot.top) / MIN_ROW_PX));
      ticks = valueTicks(content.low, content.high, most, settings.whole ? 1 : 0);
      const widest = Math.max(...ticks.map((v) => context.measureText(formatValue(v)).width));
      plot.left = Math.ceil(Math.max(widest, MIN_LABEL_PX)) + 12;
    }
    if (plot.right - plot.left < 20 || plot.bottom - plot.top < 10) return; // no room for anything
    const [low, high] = [ticks[0], ticks.at(-1)];
    const y = (v) => plot.bottom - ((v - low) / (high - low)) * (plot.bottom - plot.top);
    const pen = { context, theme, plot, ratio, crisp, y, x: placeOf, strength: ended ? 0.6 : 1 };

    if (hasLanes) content.drawAxis(pen);
    else drawValues(pen, ticks, settings.unit, anything());
    const at = pointed();
    const found = at && !selection ? inspect(at) : null;
    if (!isTimeless()) {
      drawTimes(pen, scene, clock);
      context.save();
      context.beginPath();
      context.rect(plot.left, 0, plot.right - plot.left, plot.bottom + 1);
      context.clip();
      content.draw(pen);
      drawGaps(pen, gaps, hasLanes);
      if (found) content.drawCursor(pen, found);
      if (selection) drawSelection(pen, ...selection);
      context.restore();
    }
    context.fillStyle = theme.line;
    const base = hasLanes ? plot.bottom : y(0);
    context.fillRect(plot.left, crisp(base), plot.right - plot.left, 1 / ratio);
    context.fillStyle = theme.muted;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.font = theme.font.replace(/\d+px/, "13px");
    const middle = (plot.left + plot.right) / 2;
    const isOver = zoomed !== null && zoomed.to <= content.oldest;
    const remark = anything() ? (isOver ? "No longer kept" : "") : settings.empty;
    context.fillText(remark, middle, (plot.top + plot.bottom) / 2);

    note.textContent = ended;
    back.textContent = ended ? "Show all" : "Back to live";
    const below = hasLanes && found ? content.top(plot, found.lane + 1) : (cursor?.y ?? plot.top); // nor on its lane
    tip.show(found, found && inWords(found), found && placeOf(found.t), below);
    label.update();
  }

  /** Whether there ever was a value. */
  function anything() {
    return series.some((line) => line.seen);
  }

  // ---- what is drawn, as numbers and in words ------------------------------------------------------------------

  function readout() {
    redraws.flush();
    return { from: scene.from, to: scene.to, live: zoomed === null, ...content.readout(), gaps: gapsInside() };
  }

  function gapsInside() {
    const { from, to } = scene;
    return gaps.filter((each) => each.to > from && !(each.from > to)).map((each) => ({ ...each }));
  }

  function period() {
    return `from ${clock.full(scene.from)} to ${clock.full(scene.to)}, ${clock.zone(scene.to)}`;
  }

  function description() {
    const what = [settings.title || "Chart", KINDS[settings.kind], settings.unit].filter(Boolean).join(", ");
    if (!anything() || isTimeless()) return `${what}: ${settings.empty}.`;
    const holes = gapsInside().length;
    return sentences([
      `${what}, ${zoomed ? "zoomed, " : ""}${period()}`,
      `Last: ${content.latest()}`,
      holes && `${holes} ${holes === 1 ? "gap" : "gaps"} in the data`,
      ended,
    ]);
  }

  const redraws = new Redraws(canvas, draw);
  const label = new Label(canvas, () => ({ text: description(), goesOn: anything() }));

  function destroy() {
    redraws.stop();
    label.stop();
    deaf();
    root.remove();
  }

  const chart = { push, reset, lanes, gap, span, end, readout, destroy };
  root.chart = chart; // a handle for tests and for the console
  return chart;
}

/**
 * Rolling charts of live time series on Canvas 2D: stacked bars, stacked areas and lines.
 *
 * One module for the web page, which loads it as a static file, and for the notebook, which reads its text. It has no
 * dependencies and needs `chart.css` beside it, where the colours of the theme live.
 *
 *     const chart = createChart(element, { title: "Events", kind: "bars", unit: "events/s", binS: 1,
 *                                          series: [{ name: "agent_started", color: "#0072B2" }] });
 *     chart.push(new Float64Array([t, v1, …, t, v1, …]), now);
 *
 * A row is a time and one value per series, none below zero; times are seconds since 1970. What is not known is not drawn: a missing
 * row, a NaN and a declared gap break a line, and nothing is interpolated over them.
 */

/** Okabe and Ito (2008), told apart with every kind of colour vision; yellow last, it is faint on white. */
export const PALETTE = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#7F8792", "#B8AB00"];

const MAX_GAPS = 64; // more than a window has room for
const MIN_TICK_PX = { x: 84, y: 34 }; // a label and air around it
const MIN_LABEL_PX = 34; // charts below each other begin at the same place, as long as no label is wider
const ARIA_EVERY_MS = 5000; // a text that changes faster than it is read helps nobody
const TIME_STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

/** The newest rows, oldest first, in one typed array that never grows. */
class Ring {
  constructor(capacity, width) {
    this.capacity = capacity;
    this.width = width;
    this.values = new Float64Array(capacity * width);
    this.start = 0;
    this.length = 0;
  }

  /** Index into `values` of the i-th oldest row. */
  at(i) {
    return ((this.start + i) % this.capacity) * this.width;
  }

  time(i) {
    return this.values[this.at(i)];
  }

  /** Append a newer row, or replace the one of the same time; a late row of an unknown time has no place. */
  put(source, offset) {
    const t = source[offset];
    const i = this.search(t);
    if (i === this.length) {
      if (this.length < this.capacity) this.length += 1;
      else this.start = (this.start + 1) % this.capacity;
      this.write(this.length - 1, source, offset);
    } else if (this.time(i) === t) {
      this.write(i, source, offset);
    }
  }

  write(i, source, offset) {
    const base = this.at(i);
    for (let k = 0; k < this.width; k += 1) this.values[base + k] = source[offset + k];
  }

  /** The first row at or after a time. */
  search(t) {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.time(middle) < t) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/**
 * Put a chart into an element.
 *
 * @param {HTMLElement} el where; the chart takes its width
 * @param {object} options
 *   series    [{name, color?}]: what a row's values are, from the baseline up; colours default to `PALETTE`
 *   kind      "bars" and "areas" are stacked, "lines" are not
 *   title     what it shows
 *   unit      of the values, such as "events/s"
 *   binS      what a row covers, from its time on; rows further apart than that are not joined. 0: rows are samples
 *   windowS   how much time is shown
 *   capacity  how many rows are kept
 *   height    of the canvas, CSS pixels
 *   empty     what an empty chart says
 *   utc       label the time axis in UTC rather than in the browser's zone
 * @returns {{push, reset, gap, end, readout, destroy}}
 *   push(rows, now)                     add rows or replace those of the same time; the axis ends at `now` at least
 *   reset({series, rows, gaps, now})    forget everything, and start with this
 *   gap(from, to, "gap: 12 missed")     nothing is known of this span; the same `from` replaces
 *   end(text)                           grey it out and say why
 *   readout()                           what is drawn: {from, to, series: [{name, points: [[t, value], …]}], gaps}
 *   destroy()                           remove it and everything that it listens to
 */
export function createChart(el, options = {}) {
  const settings = {
    kind: "bars",
    title: "",
    unit: "",
    binS: 1,
    windowS: 120,
    height: 220,
    empty: "Nothing here yet",
    utc: false,
    series: [],
    ...options,
  };
  const { kind, binS, windowS } = settings;
  const stacked = kind !== "lines";
  const capacity = settings.capacity ?? Math.ceil(windowS / (binS || 0.25)) + 2;

  const document = el.ownerDocument;
  const view = document.defaultView;
  const root = document.createElement("figure");
  root.className = "srt-chart";
  const caption = root.appendChild(document.createElement("figcaption"));
  caption.textContent = settings.title;
  const canvas = root.appendChild(document.createElement("canvas"));
  canvas.setAttribute("role", "img");
  canvas.style.height = `${settings.height}px`;
  const legend = root.appendChild(document.createElement("div"));
  legend.className = "srt-legend";
  legend.setAttribute("role", "group");
  legend.setAttribute("aria-label", "Series");
  el.appendChild(root);
  const context = canvas.getContext("2d");

  let series = [];
  let ring = new Ring(capacity, 1);
  let gaps = [];
  let now = NaN;
  let ended = "";
  let frame = 0;
  let describing = 0; // the timer until the next description
  let outdated = false; // whether something was drawn that it does not say
  let window_ = { from: 0, to: 0, first: 0, rows: 0 }; // of the last drawing

  // ---- data ----------------------------------------------------------------------------------------------------

  function setSeries(list) {
    series = list.map(({ name, color }, i) => ({
      name,
      color: color ?? PALETTE[i % PALETTE.length],
      visible: series.find((old) => old.name === name)?.visible ?? true,
      seen: false,
    }));
    ring = new Ring(capacity, series.length + 1);
    legend.replaceChildren(
      ...series.map((line) => {
        const button = document.createElement("button");
        button.type = "button";
        button.hidden = true; // until it has a value
        button.setAttribute("aria-pressed", String(line.visible));
        const swatch = button.appendChild(document.createElement("i"));
        swatch.style.background = line.color;
        button.append(line.name);
        button.addEventListener("click", () => {
          line.visible = !line.visible;
          button.setAttribute("aria-pressed", String(line.visible));
          schedule();
        });
        line.button = button;
        return button;
      }),
    );
  }

  function put(rows) {
    for (let offset = 0; offset + ring.width <= rows.length; offset += ring.width) {
      ring.put(rows, offset);
      series.forEach((line, k) => {
        if (!line.seen && rows[offset + 1 + k]) {
          line.seen = !Number.isNaN(rows[offset + 1 + k]);
          line.button.hidden = !line.seen;
        }
      });
    }
    if (ring.length) tell(ring.time(ring.length - 1));
  }

  /** Time has come so far; it never goes back. */
  function tell(t) {
    if (!(t <= now)) now = t;
  }

  function push(rows, at = NaN) {
    put(rows);
    if (!Number.isNaN(at)) tell(at);
    schedule();
  }

  function reset({ series: list, rows = [], gaps: spans = [], now: at = NaN } = {}) {
    now = NaN;
    ended = "";
    gaps = [];
    setSeries(list ?? series);
    put(rows);
    if (!Number.isNaN(at)) tell(at);
    spans.forEach((span) => gap(...span));
    root.classList.remove("srt-ended");
    schedule();
  }

  function gap(from, to, label = "gap") {
    gaps = gaps.filter((span) => span.from !== from);
    gaps.push({ from, to, label });
    if (gaps.length > MAX_GAPS) gaps.shift();
    schedule();
  }

  function end(text) {
    ended = text;
    root.classList.add("srt-ended");
    schedule();
  }

  // ---- what is visible -----------------------------------------------------------------------------------------

  function look() {
    const to = binS ? Math.floor(now / binS) * binS + binS : now; // whole bins: bars grow in place, then move on
    const from = to - windowS;
    const first = ring.search(from);
    window_ = { from, to, first, rows: ring.length - first };
  }

  const value = (i, k) => ring.values[ring.at(window_.first + i) + 1 + k];
  const time = (i) => ring.time(window_.first + i);

  /** Whether a line may join row i to the one before. */
  function joined(i) {
    if (i === 0) return false;
    const [a, b] = [time(i - 1), time(i)];
    return !(binS && b - a > 1.5 * binS) && !gaps.some((span) => span.from < b + binS && span.to > a);
  }

  /** What is drawn, as numbers. */
  function readout() {
    if (frame) draw();
    return {
      from: window_.from,
      to: window_.to,
      series: series.map(({ name, visible }, k) => {
        const points = [];
        for (let i = 0; visible && i < window_.rows; i += 1) {
          if (!Number.isNaN(value(i, k))) points.push([time(i), value(i, k)]);
        }
        return { name, visible, points };
      }),
      gaps: gaps.filter((span) => span.to > window_.from).map(({ from, to, label }) => ({ from, to, label })),
    };
  }

  // ---- drawing -------------------------------------------------------------------------------------------------

  function schedule() {
    if (!frame) frame = view.requestAnimationFrame(draw);
  }

  function draw() {
    view.cancelAnimationFrame(frame);
    frame = 0;
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
    context.lineJoin = "round";

    const { from, to } = window_;
    const timeless = Number.isNaN(now);
    const plot = { left: 0, right: width - 10, top: 24, bottom: height - 22 };
    const yStep = niceStep(highest() || 1, Math.max(1, Math.floor((plot.bottom - plot.top) / MIN_TICK_PX.y)));
    const yTop = Math.ceil((highest() || 1) / yStep - 1e-9) * yStep;
    const yTicks = Array.from({ length: Math.round(yTop / yStep) + 1 }, (_, n) => n * yStep);
    const widest = Math.max(...yTicks.map((v) => context.measureText(formatValue(v)).width));
    plot.left = Math.ceil(Math.max(widest, MIN_LABEL_PX)) + 12;
    const crisp = (v) => Math.round(v * ratio) / ratio; // an edge on the grid of device pixels
    const x = (t) => plot.left + ((t - from) / windowS) * (plot.right - plot.left);
    const y = (v) => plot.bottom - (v / yTop) * (plot.bottom - plot.top);

    drawAxes(theme, plot, { x, y, crisp, ratio, yTicks, timeless });
    if (!timeless) {
      context.save();
      context.beginPath();
      context.rect(plot.left, 0, plot.right - plot.left, plot.bottom);
      context.clip();
      if (kind === "bars") drawBars(x, y, crisp, ratio);
      else drawLines(x, y);
      context.restore();
      drawGaps(theme, plot, x, crisp);
    }
    context.fillStyle = theme.line;
    context.fillRect(plot.left, crisp(plot.bottom), plot.right - plot.left, 1 / ratio);
    context.fillStyle = theme.muted;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.font = theme.font.replace(/\d+px/, "13px");
    const middle = (plot.left + plot.right) / 2;
    if (!anything()) context.fillText(settings.empty, middle, (plot.top + plot.bottom) / 2);
    if (ended) context.fillText(ended, middle, plot.top - 12);
    describe();
  }

  /** Whether there ever was a value. */
  function anything() {
    return series.some((line) => line.seen);
  }

  /** The highest value, or stack of values, in the window. */
  function highest() {
    let top = 0;
    for (let i = 0; i < window_.rows; i += 1) {
      let sum = 0;
      series.forEach((line, k) => {
        const v = value(i, k);
        if (line.visible && v > 0) sum = stacked ? sum + v : Math.max(sum, v);
      });
      if (sum > top) top = sum;
    }
    return top;
  }

  function drawAxes(theme, plot, { x, y, crisp, ratio, yTicks, timeless }) {
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (const v of yTicks) {
      context.fillStyle = theme.grid;
      context.fillRect(plot.left, crisp(y(v)), plot.right - plot.left, 1 / ratio);
      context.fillStyle = theme.muted;
      if (anything()) context.fillText(formatValue(v), plot.left - 7, y(v));
    }
    context.textAlign = "left";
    context.textBaseline = "alphabetic";
    context.fillText(settings.unit, 0, 11);
    if (timeless) return;

    const { from, to } = window_;
    const zone = settings.utc ? "UTC" : zoneName(new Date(to * 1000));
    context.textBaseline = "top";
    context.textAlign = "right";
    context.fillText(zone, plot.right, plot.bottom + 7);
    const limit = plot.right - context.measureText(zone).width - 12;
    const wanted = ((plot.right - plot.left) / MIN_TICK_PX.x) | 0;
    const step = TIME_STEPS_S.find((s) => windowS / s <= wanted) ?? 86400 * Math.ceil(windowS / 86400 / (wanted || 1));
    const shift = settings.utc ? 0 : new Date(to * 1000).getTimezoneOffset() * 60;
    context.textAlign = "center";
    for (let t = Math.ceil((from - shift) / step) * step + shift; t <= to; t += step) {
      const label = formatTime(t, step, settings.utc);
      const half = context.measureText(label).width / 2;
      context.fillStyle = theme.line;
      context.fillRect(crisp(x(t)), plot.bottom, 1 / ratio, 4);
      context.fillStyle = theme.muted;
      if (x(t) - half >= 0 && x(t) + half <= limit) context.fillText(label, x(t), plot.bottom + 7);
    }
  }

  function drawBars(x, y, crisp, ratio) {
    const bases = new Float64Array(window_.rows); // where each row's next value starts
    const air = x(binS) - x(0) >= 4 ? 1 / ratio : 0; // between neighbours, where there is room
    series.forEach((line, k) => {
      if (!line.visible || !line.seen) return;
      context.fillStyle = line.color;
      for (let i = 0; i < window_.rows; i += 1) {
        const v = value(i, k);
        if (!(v > 0)) continue;
        const left = crisp(x(time(i)));
        const right = Math.max(crisp(x(time(i) + binS)) - air, left + 1 / ratio);
        const [low, high] = [crisp(y(bases[i])), crisp(y(bases[i] + v))];
        bases[i] += v;
        context.globalAlpha = time(i) + binS > now && !ended ? 0.55 : 1; // it still counts
        context.fillRect(left, high, right - left, low - high);
      }
    });
    context.globalAlpha = 1;
  }

  function drawLines(x, y) {
    const middle = binS / 2;
    const bases = new Float64Array(window_.rows);
    series.forEach((line, k) => {
      if (!line.visible || !line.seen) return;
      context.strokeStyle = context.fillStyle = line.color;
      context.lineWidth = stacked ? 1.25 : 2;
      let run = []; // rows that may be joined
      const flush = () => {
        if (run.length) drawRun(run, stacked ? bases : null);
        run = [];
      };
      const drawRun = (rows, base) => {
        const top = (i) => y(value(i, k) + (base ? base[i] : 0));
        const at = (i) => x(time(i) + middle);
        context.beginPath();
        rows.forEach((i) => context.lineTo(at(i), top(i)));
        if (rows.length === 1) {
          context.moveTo(at(rows[0]) + 2.5, top(rows[0])); // alone between two breaks, still to be seen
          context.arc(at(rows[0]), top(rows[0]), 2.5, 0, 2 * Math.PI);
          context.fill();
          return;
        }
        context.stroke();
        if (base) {
          [...rows].reverse().forEach((i) => context.lineTo(at(i), y(base[i])));
          context.globalAlpha = 0.75;
          context.fill();
          context.globalAlpha = 1;
        }
      };
      for (let i = 0; i < window_.rows; i += 1) {
        const open = binS && time(i) + binS > now && !ended; // half a bin would look like a fall
        if (Number.isNaN(value(i, k)) || open || !joined(i)) flush();
        if (!Number.isNaN(value(i, k)) && !open) run.push(i);
      }
      flush();
      for (let i = 0; stacked && i < window_.rows; i += 1) bases[i] += value(i, k) || 0;
    });
  }

  function drawGaps(theme, plot, x, crisp) {
    context.textBaseline = "top";
    context.textAlign = "center";
    for (const span of gaps) {
      const left = crisp(Math.max(x(span.from), plot.left));
      const right = crisp(Math.min(Math.max(x(span.to), x(span.from) + 3), plot.right)); // a short one is seen too
      if (right <= plot.left || left >= plot.right) continue;
      context.save();
      context.beginPath();
      context.rect(left, plot.top, right - left, plot.bottom - plot.top);
      context.clip();
      context.fillStyle = theme.gapFill;
      context.fillRect(left, plot.top, right - left, plot.bottom - plot.top);
      context.strokeStyle = theme.gap;
      context.lineWidth = 1;
      context.beginPath();
      const rise = plot.bottom - plot.top;
      for (let at = left - rise - (left % 8); at < right; at += 8) {
        context.moveTo(at, plot.bottom);
        context.lineTo(at + rise, plot.top);
      }
      context.stroke();
      context.restore();
      const fits = (text) => context.measureText(text).width + 8 <= right - left;
      const label = [span.label, span.label.split(":")[0]].find(fits);
      if (!label) continue;
      const { width } = context.measureText(label);
      context.fillStyle = theme.paper;
      context.fillRect((left + right - width) / 2 - 4, plot.top + 5, width + 8, 16);
      context.fillStyle = theme.muted;
      context.fillText(label, (left + right) / 2, plot.top + 8);
    }
  }

  // ---- words for those who do not see it -----------------------------------------------------------------------

  function describe() {
    outdated = describing !== 0;
    if (outdated) return;
    canvas.setAttribute("aria-label", description());
    if (!anything()) return; // the first data are news at once
    describing = view.setTimeout(() => {
      describing = 0;
      if (outdated) describe();
    }, ARIA_EVERY_MS);
  }

  function description() {
    const what = `${settings.title || "Chart"}, ${stacked ? "stacked " : ""}${kind}, ${settings.unit}`;
    if (!anything()) return `${what}: ${settings.empty}.`;
    const { from, to, rows } = window_;
    const span = `from ${formatTime(from, 1, settings.utc)} to ${formatTime(to, 1, settings.utc)}`;
    let last = rows - 1; // the newest row that counts no more
    while (last >= 0 && binS && time(last) + binS > now) last -= 1;
    const values = series
      .map(({ name, visible }, k) => [name, visible && last >= 0 ? value(last, k) : 0])
      .filter(([, v]) => v > 0)
      .sort((a, b) => b[1] - a[1])
      .map(([name, v]) => `${name} ${formatValue(v)}`);
    const holes = gaps.filter((gap_) => gap_.to > from).length;
    const broken = holes ? ` ${holes} ${holes === 1 ? "gap" : "gaps"} in the data.` : "";
    return `${what}, ${span}. Last: ${values.join(", ") || "0"}.${broken}${ended ? ` ${ended}.` : ""}`;
  }

  // ---- what makes it draw again --------------------------------------------------------------------------------

  const resize = new view.ResizeObserver(schedule);
  resize.observe(canvas);
  const schemes = view.matchMedia("(prefers-color-scheme: dark)");
  schemes.addEventListener("change", schedule);
  const themes = new view.MutationObserver(schedule); // JupyterLab names its theme in attributes of the body
  themes.observe(document.body, { attributes: true });
  view.addEventListener("resize", schedule); // zoom changes the device pixel ratio and not always our size

  function destroy() {
    view.cancelAnimationFrame(frame);
    view.clearTimeout(describing);
    resize.disconnect();
    themes.disconnect();
    schemes.removeEventListener("change", schedule);
    view.removeEventListener("resize", schedule);
    root.remove();
  }

  setSeries(settings.series);
  schedule();
  const chart = { push, reset, gap, end, readout, destroy };
  root.chart = chart; // a handle for tests and for the console
  return chart;
}

// ---- scales and words --------------------------------------------------------------------------------------------

/** 1, 2 or 5 times a power of ten, so that a value has at most so many steps below it. */
function niceStep(top, steps) {
  const rough = top / steps;
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= rough * (1 - 1e-9));
}

function formatValue(v) {
  for (const [limit, sign] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (Math.abs(v) >= limit) return `${+(v / (sign === "k" ? 1e3 : limit)).toPrecision(4)} ${sign}`;
  }
  return String(+v.toPrecision(4));
}

const two = (n) => String(n).padStart(2, "0");

function formatTime(t, step, utc) {
  const local = new Date(t * 1000);
  // A date whose UTC fields show the wanted zone.
  const d = utc ? local : new Date(t * 1000 - local.getTimezoneOffset() * 60000);
  const clock = `${two(d.getUTCHours())}:${two(d.getUTCMinutes())}`;
  if (step >= 86400 || (step >= 60 && clock === "00:00")) return `${two(d.getUTCMonth() + 1)}-${two(d.getUTCDate())}`;
  return step < 60 ? `${clock}:${two(d.getUTCSeconds())}` : clock;
}

function zoneName(date) {
  const minutes = -date.getTimezoneOffset();
  if (minutes === 0) return "UTC";
  const size = Math.abs(minutes);
  return `UTC${minutes < 0 ? "−" : "+"}${two(Math.floor(size / 60))}:${two(size % 60)}`;
}

/** The colours that `chart.css` gives to this place of the page. */
function readTheme(style) {
  const property = (name) => style.getPropertyValue(`--srt-${name}`).trim();
  return {
    paper: property("paper"),
    muted: property("muted"),
    line: property("line"),
    grid: property("grid"),
    gap: property("gap"),
    gapFill: property("gap-fill"),
    font: `11px ${style.fontFamily}`,
  };
}

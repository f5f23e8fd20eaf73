/** Scales and words of the charts: clocks, ticks, numbers, durations. Pure: no page, no drawing. */

export const DAY_S = 86400;

const STEPS_S = [
  ...[0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800],
  ...[1, 2, 3, 6, 12].map((hours) => hours * 3600),
  ...[1, 2, 3, 7, 14, 28].map((days) => days * DAY_S),
];

// From what size on, the unit, its sign.
const PREFIXES = [[1e12, 1e12, " T"], [1e9, 1e9, " G"], [1e6, 1e6, " M"], [1e4, 1e3, " k"], [0, 1, ""]];

const two = (n) => String(n).padStart(2, "0");

/**
 * How the time axis is read.
 *
 * @param {string} kind "wall": the browser's zone; "utc"; "simulated": days since the first one, which has no zone
 * @param {number} startS of simulated time, seconds since 1970: a moment of day 1. Without it days have their dates
 */
export class Clock {
  constructor(kind, startS = NaN) {
    this.kind = kind;
    this.firstDay = kind === "simulated" ? Math.floor(startS / DAY_S) : NaN;
  }

  /** What is to be added to a time so that its UTC fields are those of this clock. */
  shift(t) {
    return this.kind === "wall" ? -60 * new Date(t * 1000).getTimezoneOffset() : 0;
  }

  zone(t, isShort = false) {
    if (this.kind === "simulated") return isShort ? "sim. time" : "simulated time";
    const minutes = this.shift(t) / 60;
    if (!minutes) return "UTC";
    const size = Math.abs(minutes);
    return `UTC${minutes < 0 ? "−" : "+"}${two(Math.floor(size / 60))}:${two(size % 60)}`;
  }

  day(t) {
    const days = Math.floor(t / DAY_S) - this.firstDay + 1;
    if (!Number.isNaN(days)) return `day ${days}`;
    const date = new Date((t + this.shift(t)) * 1000);
    return `${two(date.getUTCMonth() + 1)}-${two(date.getUTCDate())}`;
  }

  /** The time of day, as exact as a step between ticks asks for. */
  time(t, step) {
    const ms = Math.round((t + this.shift(t)) * 1000);
    const date = new Date(ms);
    const clock = `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}`;
    if (step >= 60) return clock;
    const tenths = step < 1 ? `.${Math.floor((ms % 1000) / 100)}` : "";
    return `${clock}:${two(date.getUTCSeconds())}${tenths}`;
  }

  /** A label below the axis: midnight is the name of a day. */
  label(t, step) {
    const time = this.time(t, step);
    return step >= DAY_S || (step >= 60 && time === "00:00") ? this.day(t) : time;
  }

  /** A time that stands alone. */
  full(t, step = 1) {
    return this.kind === "simulated" ? `${this.day(t)} ${this.time(t, step)}` : this.time(t, step);
  }

  /** @returns {{step, times}} ticks at round times, at most so many */
  ticks(from, to, most) {
    const span = to - from;
    const days = Math.ceil(span / DAY_S / Math.max(1, most));
    const step = STEPS_S.find((s) => span / s <= most) ?? DAY_S * days;
    const shift = this.firstDay ? -this.firstDay * DAY_S : this.shift(to); // weeks begin with day 1
    const times = [];
    const first = Math.ceil((from + shift) / step - 1e-6);
    for (let t = first * step - shift; t <= to; t = (first + times.length) * step - shift) times.push(t);
    return { step, times };
  }
}

/**
 * Ticks of a value axis that has zero on it.
 *
 * @param {number} least the smallest step
 * @returns {number[]} multiples of 1, 2 or 5 times a power of ten that enclose both, in at most so many steps; one more
 *   if some are below zero
 */
export function valueTicks(low, high, most, least = 0) {
  const rough = Math.max((high - low) / most, least);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * (1 - 1e-9));
  const first = Math.floor(low / step + 1e-9);
  return Array.from({ length: Math.ceil(high / step - 1e-9) - first + 1 }, (_, n) => (first + n) * step || 0);
}

export function formatValue(v) {
  const size = Math.abs(v);
  if (size >= 1e15) return v.toExponential(1).replace("e+", "e");
  const [, unit, sign] = PREFIXES.find(([limit]) => size >= limit);
  return `${+(v / unit).toPrecision(4)}${sign}`.replace("-", "−");
}

/** A length of time, in its two largest units. */
export function formatDuration(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${+seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const units = [[DAY_S, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const i = units.findIndex(([size]) => whole >= size);
  const [[size, unit], [small, smallUnit]] = [units[i], units[i + 1]];
  const rest = Math.floor((whole % size) / small);
  return `${Math.floor(whole / size)} ${unit}${rest ? ` ${rest} ${smallUnit}` : ""}`;
}

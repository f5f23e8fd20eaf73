/**
 * Values in bins of time, counted as events come. The notebook's `metrics.py` counts by the same rules.
 *
 * There is a row only where the stream proves what happened: between events that follow each other without a gap, and up
 * to now while the stream is open. Elsewhere there is none, or one of NaN.
 */

const MAX_GAPS = 32; // more than a window has room for

/** Gaps of one chart, the newest last: {from, to, label}, seconds since 1970. */
export class Gaps {
  constructor() {
    this.list = [];
    this.waits = false; // the newest ends where the next event is
    this.proven = NaN; // time of the newest event
  }

  /** Something was lost after the newest event and before `now`; where that begins. */
  add(now, label) {
    const from = Number.isNaN(this.proven) ? now : this.proven;
    this.list.push({ from, to: Math.max(now, from), label });
    if (this.list.length > MAX_GAPS) this.list.shift();
    this.waits = true;
    return from;
  }

  /** An event of this time came; whether the newest gap ends there, before it was declared. */
  prove(time) {
    const isShorter = this.waits && time < this.list.at(-1).to;
    if (isShorter) {
      const gap = this.list.at(-1);
      const from = Number.isNaN(this.proven) ? time : gap.from; // before the first event it has no length
      this.list[this.list.length - 1] = { ...gap, from, to: Math.max(time, from) };
    }
    this.waits = false;
    if (!(time <= this.proven)) this.proven = time;
    return isShorter;
  }

  /** Whether all of a span is within one; at its start was an event. */
  cover(from, to) {
    return this.list.some((gap) => gap.from < from && to <= gap.to);
  }

  clear() {
    this.list = [];
    this.waits = false;
    this.proven = NaN;
  }
}

export class Binned {
  /**
   * @param {number} width values in a row
   * @param {object} options
   *   binS  what a bin covers, seconds
   *   bins  how many are kept
   */
  constructor(width, { binS = 1, bins = 602 } = {}) {
    this.binS = binS;
    this.version = 0; // grows with every change
    this.width = width;
    this.bins = bins;
    this.holes = new Gaps();
    this.kept = new Map(); // number of a bin -> its values
    this.lost = new Set(); // bins whose row was known before a gap was declared
    this.versions = new Map();
    this.first = 0; // numbers of the oldest and of the newest bin, once there are rows
    this.last = 0;
  }

  get gaps() {
    return this.holes.list;
  }

  /** An event of this time came: what the stream has not brought up to there has not happened. */
  prove(time) {
    // Its end may be told before anything is filled; the rows up to there follow from `cover`.
    if (this.holes.prove(time)) {
      this.version += 1;
      if (this.kept.size) this.fill(this.first, this.last + 1);
    }
    this.cover(Math.floor(time / this.binS));
  }

  /** The stream is open at `now`: what it has not brought has not happened. */
  advance(now) {
    this.cover(Math.floor(now / this.binS));
  }

  /** Something was lost after the newest event and before `now`. */
  gap(now, label) {
    this.holes.add(now, label);
    this.version += 1;
    for (const [bin, row] of this.kept) {
      if (!this.isUnknown(bin)) continue;
      row.fill(NaN);
      this.lost.add(bin);
      this.touch(bin);
    }
  }

  /** The log begins anew with the next event: whatever there was before it, it is no more. */
  begin() {}

  /** Forget everything, as time itself begins anew. */
  clear() {
    this.version += 1;
    this.holes.clear();
    this.kept.clear();
    this.lost.clear();
    this.versions.clear();
    this.begin();
  }

  /** Rows that changed after a version, oldest first, one after the other: the bin's time, then its values. */
  rows(since = 0) {
    const changed = [];
    for (const [bin, version] of this.versions) if (version > since) changed.push(bin);
    changed.sort((a, b) => a - b);
    const table = new Float64Array(changed.length * (1 + this.width));
    changed.forEach((bin, n) => {
      table[n * (1 + this.width)] = bin * this.binS;
      table.set(this.kept.get(bin), n * (1 + this.width) + 1);
    });
    return table;
  }

  /** The values of a bin in which nothing happened. */
  blank() {
    return new Array(this.width).fill(0);
  }

  /** Let the rows reach to a bin. */
  cover(bin) {
    if (!this.kept.size) this.first = this.last = bin;
    else if (this.kept.has(bin)) return;
    else if (bin < this.first && this.first === this.last - this.bins + 1) return; // too old to be kept
    const [from, to] = bin > this.last ? [this.last + 1, bin] : [bin + 1, this.first];
    this.last = Math.max(this.last, bin);
    const first = Math.max(Math.min(this.first, bin), this.last - this.bins + 1);
    for (let gone = this.first; gone < Math.min(first, this.first + this.bins); gone += 1) {
      this.kept.delete(gone);
      this.versions.delete(gone);
      this.lost.delete(gone);
    }
    this.first = first;
    if (bin >= first && !this.kept.has(bin)) this.putBlank(bin);
    this.fill(Math.max(from, first), to);
  }

  /** Blank rows for those bins that nothing is known against. */
  fill(from, to) {
    for (let bin = from; bin < to; bin += 1) {
      if ((!this.kept.has(bin) || this.lost.has(bin)) && !this.isUnknown(bin)) this.putBlank(bin);
    }
  }

  /** The row of a bin in which something happened; undefined if it is older than what is kept. */
  knownRow(bin) {
    if (this.lost.has(bin)) this.putBlank(bin); // publishers' clocks may differ by a little
    return this.kept.get(bin);
  }

  putBlank(bin) {
    this.kept.set(bin, this.blank());
    this.lost.delete(bin);
    this.touch(bin);
  }

  touch(bin) {
    this.version += 1;
    this.versions.set(bin, this.version);
  }

  isUnknown(bin) {
    return this.holes.cover(bin * this.binS, (bin + 1) * this.binS);
  }
}

/** What happened in each bin, as a rate per `unitS` seconds; zero where nothing did. */
export class Sums extends Binned {
  constructor(width, { unitS = 1, ...options } = {}) {
    super(width, options);
    this.share = unitS / this.binS;
  }

  /** Add to columns: [[column, amount], …]. */
  count(time, amounts) {
    this.prove(time);
    const bin = Math.floor(time / this.binS);
    const row = this.knownRow(bin);
    if (!row) return;
    for (const [column, amount] of amounts) row[column] += amount * this.share;
    this.touch(bin);
  }
}

/**
 * How many there are, at the end of each bin; an event that comes late counts from the newest one on.
 *
 * The last `spikes` values of a row are no levels: they count what happened in the bin.
 */
export class Levels extends Binned {
  constructor(width, { spikes = 0, ...options } = {}) {
    super(width, options);
    this.spikes = spikes;
    this.levels = new Array(width - spikes).fill(0);
  }

  /** From a time on these are the levels; `spike` counts one more in its column. */
  set(time, levels, spike = null) {
    const from = time < this.holes.proven ? this.holes.proven : time;
    this.prove(from);
    this.levels = [...levels];
    const bin = Math.floor(from / this.binS);
    const row = this.knownRow(bin);
    if (!row) return;
    if (spike !== null) row[spike] += 1;
    for (let later = bin; later <= this.last; later += 1) {
      const values = this.kept.get(later);
      if (!values || this.lost.has(later)) continue;
      this.levels.forEach((level, column) => (values[column] = level));
      this.touch(later);
    }
  }

  blank() {
    return [...this.levels, ...new Array(this.spikes).fill(0)];
  }
}

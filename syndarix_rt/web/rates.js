/**
 * Events per bin by type, kept up as they come: what the chart of a page draws. The notebook's `metrics.py` counts by
 * the same rules.
 *
 * An event counts in the bin of its publication. A bin without events is zero only where the stream proves it: between
 * events that follow each other without a gap, and up to now while it is open. Else there is no row, or a NaN.
 */
export class EventRate {
  /**
   * @param {string[]} names the series; the last one takes every type that is none of the others
   * @param {number} binS what a bin covers, seconds
   * @param {number} bins how many are kept
   */
  constructor(names, { binS = 1, bins = 122 } = {}) {
    this.index = new Map(names.map((name, k) => [name, k]));
    this.width = names.length;
    this.binS = binS;
    this.bins = bins;
    this.rows = new Map(); // number of a bin -> counts by series
    this.first = NaN; // numbers of the oldest and of the newest bin
    this.last = NaN;
    this.gaps = []; // {from, to, label}, the newest last
    this.proven = NaN; // time of the newest event
    this.changed = new Set();
  }

  /** Count an event that was published at `t`. */
  add(type, t) {
    const gap = this.gaps.at(-1);
    if (gap?.waits) {
      gap.waits = false; // what follows the gap tells where it ends
      if (t < gap.to) {
        gap.to = Math.max(t, gap.from);
        this.fill();
      }
    }
    const bin = Math.floor(t / this.binS);
    this.cover(bin);
    if (!(t <= this.proven)) this.proven = t;
    const row = this.rows.get(bin);
    if (!row) return; // older than the window
    if (Number.isNaN(row[0])) row.fill(0); // publishers' clocks may differ by a little
    row[this.index.get(type) ?? this.width - 1] += 1 / this.binS;
    this.changed.add(bin);
  }

  /** The stream is open at `now`: what it has not brought has not happened. */
  advance(now) {
    this.cover(Math.floor(now / this.binS));
  }

  /** Something was lost after the newest event and before `now`. */
  gap(now, label) {
    const from = Number.isNaN(this.proven) ? now : this.proven;
    this.gaps.push({ from, to: Math.max(now, from), label, waits: true });
    if (this.gaps.length > 32) this.gaps.shift();
    for (const [bin, row] of this.rows) {
      if (!this.unknown(bin)) continue;
      row.fill(NaN);
      this.changed.add(bin);
    }
  }

  /** Changed rows since the last call, as the chart takes them. */
  take() {
    const rows = [];
    for (const bin of [...this.changed].sort((a, b) => a - b)) {
      const row = this.rows.get(bin);
      if (row) rows.push(bin * this.binS, ...row);
    }
    this.changed.clear();
    return new Float64Array(rows);
  }

  /** Whether a bin lies wholly within a gap. */
  unknown(bin) {
    const [from, to] = [bin * this.binS, (bin + 1) * this.binS];
    return this.gaps.some((gap) => gap.from < from && to <= gap.to); // at its start was an event
  }

  /** Let the rows reach to a bin. */
  cover(bin) {
    if (bin >= this.first && bin <= this.last && this.rows.has(bin)) return;
    const newest = Math.max(this.last || bin, bin);
    const oldest = Math.max(Math.min(this.first || bin, bin), newest - this.bins + 1);
    for (let b = this.first; b < Math.min(oldest, this.first + this.bins); b += 1) this.rows.delete(b);
    [this.first, this.last] = [oldest, newest];
    if (bin >= oldest && !this.rows.has(bin)) this.zero(bin);
    this.fill();
  }

  /** Zeros for all bins between the first and the last that nothing is known against. */
  fill() {
    for (let bin = this.first; bin <= this.last; bin += 1) {
      const row = this.rows.get(bin);
      if ((!row || Number.isNaN(row[0])) && !this.unknown(bin)) this.zero(bin);
    }
  }

  zero(bin) {
    this.rows.set(bin, new Float64Array(this.width));
    this.changed.add(bin);
  }
}

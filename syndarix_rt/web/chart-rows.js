/** The newest rows by time, oldest first, in one typed array that never grows. The first value of a row is its time. */
export class Rows {
  constructor(capacity, width) {
    this.capacity = capacity;
    this.width = width;
    this.values = new Float64Array(capacity * width);
    this.start = 0;
    this.length = 0;
    this.dropped = false; // whether an old row had to go
  }

  /** Index into `values` of the i-th oldest row. */
  at(i) {
    return ((this.start + i) % this.capacity) * this.width;
  }

  time(i) {
    return this.values[this.at(i)];
  }

  get(i, k) {
    return this.values[this.at(i) + k];
  }

  /** Take in a row, or replace the one of the same time. Most are the newest; a late one goes to its place. */
  put(source, offset) {
    const t = source[offset];
    if (!Number.isFinite(t)) return;
    let i = this.search(t);
    if (i === this.length || this.time(i) !== t) {
      if (this.length === this.capacity) {
        this.dropped = true;
        if (i === 0) return; // older than all
        this.start = (this.start + 1) % this.capacity;
        i -= 1;
      } else {
        this.length += 1;
      }
      for (let j = this.length - 1; j > i; j -= 1) this.write(j, this.values, this.at(j - 1));
    }
    this.write(i, source, offset);
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

  /** The last row at or before a time; -1: there is none. */
  before(t) {
    const i = this.search(t);
    return i < this.length && this.time(i) === t ? i : i - 1;
  }
}

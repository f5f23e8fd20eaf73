/** How many are in each state, when only changes are told. The notebook's `panels/census.py` counts by the same rules. */

const MAX_FINAL = 20_000; // so many who have reached their end are remembered, should they move again
const MAX_OPEN = 100_000; // so many others

/**
 * Counts individuals by state: `counts`.
 *
 * After a gap nobody knows where those are who had not reached their end; they count as doubtful until they are seen
 * again.
 */
export class Census {
  /**
   * @param {number} states how many states there are
   * @param {object} options
   *   final     those that hardly anybody leaves
   *   doubtful  the state of those of whom a gap has hidden what they did
   */
  constructor(states, { final = [], doubtful }) {
    this.counts = new Array(states).fill(0);
    this.final = new Set(final);
    this.doubtful = doubtful;
    this.open = new Map();
    this.ended = new Map();
  }

  /** Where somebody is; undefined if nobody knows of them. */
  state(who) {
    return this.open.get(who) ?? this.ended.get(who);
  }

  /** Somebody, new or known, is in this state now; with null, nowhere any more. */
  move(who, state) {
    const old = this.state(who);
    if (!this.open.delete(who)) this.ended.delete(who);
    if (old !== undefined) this.counts[old] -= 1;
    if (state === null) return;
    this.counts[state] += 1;
    const [kept, most] = this.final.has(state) ? [this.ended, MAX_FINAL] : [this.open, MAX_OPEN];
    kept.set(who, state);
    if (kept.size > most) kept.delete(kept.keys().next().value); // still counted
  }

  /** A gap: whoever has not reached their end may have done so, and more may have come. */
  doubt() {
    for (const [who, state] of this.open) {
      this.counts[state] -= 1;
      this.counts[this.doubtful] += 1;
      this.open.set(who, this.doubtful);
    }
  }

  /** Count those no more who were not seen again. */
  forgetDoubtful() {
    this.counts[this.doubtful] = 0;
    for (const [who, state] of this.open) if (state === this.doubtful) this.open.delete(who);
  }

  /** Nobody is left. */
  clear() {
    this.counts = new Array(this.counts.length).fill(0);
    this.open.clear();
    this.ended.clear();
  }
}

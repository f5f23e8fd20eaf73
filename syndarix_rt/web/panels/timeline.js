/** The events of one page, each at its time on the axis. As of the notebook's `panels/timeline.py`. */

const MAX_SIMULATIONS = 1000; // that are remembered as not to be followed any more

/**
 * Puts events on an axis, that of their publication or that of simulated time, and gives them to every panel that wants
 * them. A panel has `types` (null: all) and see(event, time), prove(time), advance(now), gap(now, label), begin(), clear().
 *
 * Simulated time belongs to one simulation: the newest that began. With each that begins, or is begun again, the axis
 * begins anew.
 */
export class Timeline {
  constructor(panels, { isSimulated = false } = {}) {
    this.panels = panels;
    this.isSimulated = isSimulated;
    this.following = undefined; // the simulation whose time it is
    this.newest = NaN; // time of the newest event on the axis
    this.eventTime = NaN; // of the event that came last, simulated or real
    this.former = new Set();
    this.isResuming = false;
    this.lost = ""; // label of a gap whose end on the simulated axis the next event tells
    this.all = panels.filter(({ types }) => types === null);
    this.byType = new Map();
    for (const type of panels.flatMap(({ types }) => types ?? [])) {
      this.byType.set(type, panels.filter(({ types }) => types === null || types.includes(type)));
    }
  }

  /** Where the axis ends, at a wall time. */
  now(wall) {
    return this.isSimulated ? this.newest : wall;
  }

  /** An event came: where it stands in its log, and when it came. */
  add(event, offset, received) {
    this.eventTime = event.time;
    if (offset === 1) this.begin();
    let time = Math.min(event.recorded ?? event.time, received); // nothing is published after it came, whatever a clock says
    if (this.isSimulated) {
      if (!this.follows(event.simulation)) return;
      ({ time } = event);
      if (event.cause === undefined && time < this.newest) this.clear(); // an echo of the beginning: it is played once more
      if (this.lost) {
        this.lose(time, this.lost);
        this.lost = "";
      }
    }
    if (!(time <= this.newest)) this.newest = time;
    if (this.isResuming) {
      this.isResuming = false;
      for (const panel of this.panels) panel.prove(time);
    }
    for (const panel of this.byType.get(event.type) ?? this.all) panel.see(event, time);
  }

  /** Something was lost before `now`, wall time. */
  gap(now, label) {
    if (this.isSimulated) this.lost = label;
    else this.lose(now, label);
  }

  /** The stream is open, and has brought everything, at a wall time. */
  advance(wall) {
    const now = this.now(wall);
    if (Number.isNaN(now)) return;
    for (const panel of this.panels) panel.advance(now);
  }

  /** Whether an event belongs to the simulation that is followed, or to a new one that will be from now on. */
  follows(simulation) {
    if (simulation === this.following) return simulation !== undefined;
    if (simulation === undefined || this.former.has(simulation)) return false;
    if (this.following !== undefined) {
      this.former.add(this.following);
      if (this.former.size > MAX_SIMULATIONS) this.former.delete(this.former.values().next().value);
    }
    this.following = simulation;
    this.clear();
    return true;
  }

  lose(now, label) {
    for (const panel of this.panels) {
      if (!Number.isNaN(this.newest)) panel.prove(this.newest);
      panel.gap(now, label);
    }
    this.isResuming = true;
  }

  begin() {
    this.former.clear();
    this.following = undefined;
    if (this.isSimulated) this.clear();
    else for (const panel of this.panels) panel.begin();
  }

  clear() {
    this.newest = NaN;
    this.lost = "";
    this.isResuming = false;
    for (const panel of this.panels) panel.clear();
  }
}

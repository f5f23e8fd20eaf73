/** What this page received, as evidence. As of `syndarix_rt.delivery.Ledger`. */

const STEPS_MS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 60_000];
const MAX_GAPS = 5; // that are told one by one

export class Ledger {
  constructor() {
    this.events = 0;
    this.connections = 0;
    this.resumed = 0;
    this.holes = 0; // events that were neither received nor declared missing; always 0, or delivery is broken
    this.gaps = 0;
    this.newestGaps = []; // {time, reason, missed}, the newest first
    this.delays = new Array(STEPS_MS.length + 1).fill(0); // events by the time from publication to reception
  }

  open(isResumed) {
    this.connections += 1;
    this.resumed += Number(isResumed);
  }

  event(delayS) {
    this.events += 1;
    if (delayS === undefined) return;
    const step = STEPS_MS.findIndex((most) => delayS * 1000 <= most);
    this.delays[step < 0 ? STEPS_MS.length : step] += 1;
  }

  gap(time, { reason, missed }) {
    this.gaps += 1;
    this.newestGaps = [{ time, reason, missed }, ...this.newestGaps].slice(0, MAX_GAPS);
  }

  /** Upper bound of the delay below which a share of the events came, milliseconds; null without events. */
  delayMs(share) {
    const wanted = share * this.delays.reduce((sum, count) => sum + count, 0);
    let seen = 0;
    for (const [step, count] of this.delays.entries()) {
      seen += count;
      if (count && seen >= wanted) return STEPS_MS[step] ?? Infinity;
    }
    return null;
  }
}

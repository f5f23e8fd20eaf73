/** What waits for a decision: kept up to date with the server where events do not tell, and decided there. */

import { createView } from "../views/approvals.js";
import { ask } from "./http.js";
import { duration } from "./words.js";

const ASK_EVERY_MS = 2000; // the server, what waits
const MAX_SHOWN = 50;

export class Approvals {
  /**
   * @param {string} base URL of the project's routes
   * @param {ApprovalInbox} inbox what events say
   */
  constructor(el, base, inbox) {
    this.base = `${base}/approvals`;
    this.inbox = inbox;
    this.asked = -Infinity; // when, on the page's clock
    this.view = createView(el, { title: "Approvals" }, ({ approval, decision }) => this.decide(approval, decision));
  }

  async decide(id, decision) {
    this.inbox.decide(id, decision);
    let error = "the server cannot be reached; try again";
    try {
      const answer = await ask(`${this.base}/${encodeURIComponent(id)}`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ decision, by: "web page" }),
      });
      if (answer.ok) return; // the event that follows takes it from the list
      error = (await answer.json()).detail ?? `the server answers ${answer.status}`;
    } catch {
      // No connection, or no JSON.
    }
    this.inbox.decide(id, "", error);
  }

  /** Ask the server what waits, if events do not tell. */
  async ask() {
    const { inbox } = this;
    if (!inbox.isUncertain || performance.now() - this.asked < ASK_EVERY_MS) return;
    this.asked = performance.now();
    const question = inbox.ask();
    try {
      const answer = await ask(this.base);
      if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
      inbox.correct(question, (await answer.json()).approvals);
    } catch {
      inbox.isUncertain = true; // asked again
    }
  }

  /** @param {number} eventTime of the newest event, seconds since 1970; NaN without one */
  tell(eventTime) {
    const pending = [...this.inbox.pending.values()];
    this.view.receive({
      uncertain: this.inbox.isUncertain,
      count: pending.length,
      pending: pending.slice(0, MAX_SHOWN).map((waiting) => {
        const isSimulated = waiting.simulation && !Number.isNaN(eventTime);
        const now = isSimulated ? eventTime : Date.now() / 1000;
        return {
          ...waiting,
          since: `${new Date(waiting.since * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`,
          waited: `${duration(now - waiting.since)}${isSimulated ? " of simulated time" : ""}`,
        };
      }),
    });
  }
}

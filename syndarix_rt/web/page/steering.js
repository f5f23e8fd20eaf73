/** The run that plays into the project: how far it is, buttons to steer it, and a look inside. */

import { createView as createControl } from "../views/control.js";
import { createView as createDebug } from "../views/debug.js";
import { Runs } from "./runs.js";

const FAULT_MIN = 30; // simulated minutes, long enough to see what it does
const SPEEDS = ["1", "10", "60", "600", "max"].map((speed) => [speed, speed === "max" ? "as fast as it goes" : `${speed} × real time`]);
const FAULTS = ["ci_outage", "provider_brownout", "incident_storm"].map((kind) => [kind, kind.replace("_", " ").replace("ci ", "CI ")]);
const ENTITIES = ["project", "queues", "agents", "agent_runs", "issues", "prs", "pipelines", "approvals", "sprints", "faults"];
const METHODS = { pause: "run.pause", resume: "run.resume", step: "run.step", set_speed: "run.setSpeed", inject: "run.inject" };

export class Steering {
  /**
   * @param {HTMLElement} control where the buttons are; hidden while nothing plays, as is `debug`
   * @param {HTMLElement} debug where it is looked into
   * @param {string} base URL of the project's routes
   */
  constructor(control, debug, base) {
    this.elements = [control, debug];
    this.newest = null; // event of a simulation
    this.doing = "";
    this.refused = "";
    this.seen = { text: "", error: "" };
    const choices = { title: "Run", scenarios: [], speeds: SPEEDS, faults: FAULTS, faultMin: FAULT_MIN };
    this.control = createControl(control, choices, (asked) => this.steer(asked));
    this.debug = createDebug(debug, { title: "Debug", entities: ENTITIES }, (asked) => this.look(asked));
    this.runs = new Runs(base, () => this.tell());
  }

  async steer({ op, value }) {
    const params = {
      step: { events: value },
      set_speed: { speed: value === "max" ? value : Number(value) },
      inject: { fault: { kind: value, minutes: FAULT_MIN } },
    }[op];
    [this.doing, this.refused] = [op, ""];
    this.tell();
    try {
      await this.runs.call(METHODS[op], params);
    } catch (error) {
      this.refused = error.message;
    }
    this.doing = "";
    this.tell();
  }

  async look({ op, type, where, entity }) {
    this.seen = { text: "", error: "" };
    try {
      if (op === "inspect") {
        this.seen.text = JSON.stringify(await this.runs.call("run.inspect", { entity }), null, 2);
      } else {
        const added = op === "break" && (type || where) ? [{ ...(type && { type }), ...(where && { where }) }] : [];
        const breakpoints = op === "clear" ? [] : [...(this.runs.state?.breakpoints ?? []), ...added];
        await this.runs.call("run.setBreakpoints", { breakpoints });
      }
    } catch (error) {
      this.seen.error = error.message;
    }
    this.tell();
  }

  /** How far a run is: as it said last, or as its events say since then. */
  timeOf({ time, simulation }) {
    const { newest } = this;
    const isLater = simulation && newest?.simulation === simulation && newest.time > Date.parse(time) / 1000;
    return isLater ? new Date(newest.time * 1000).toISOString() : time;
  }

  tell() {
    const { state: run } = this.runs;
    for (const element of this.elements) element.hidden = !run;
    if (!run) return;
    const stop = run.stopped?.event ? ` at a breakpoint (${run.stopped.event.type})` : "";
    const speed = run.speed === "max" ? ", as fast as it goes" : run.speed ? `, speed ${run.speed}` : "";
    const time = run.time ? `, ${this.timeOf(run).slice(0, 19).replace("T", " ")} of simulated time` : "";
    const status = `${run.name || run.run}: ${run.state}${stop}${speed}${time}`;
    const go = run.state === "paused" ? "resume" : "pause";
    const abilities = [go, "step", "set_speed", ...(run.simulation ? ["inject"] : [])];
    this.control.receive({ status, playing: true, abilities, doing: this.doing, error: this.refused });
    this.debug.receive({ status: stop ? `stopped${stop}` : "", breakpoints: run.breakpoints ?? [], ...this.seen });
  }
}

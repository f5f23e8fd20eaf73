/** The run that plays into the project, steered over `WS …/debug` (JSON-RPC 2.0, syndarix.debug.v1). */

import { openSocket } from "./socket.js";

const LOOK_EVERY_MS = 3000; // for a run, while there is none
const STEERABLE = ["playing", "paused", "stepping"];

export class Runs {
  /** @param {string} base URL of the project's routes */
  constructor(base, onChange) {
    this.state = null; // of the run, as the server tells it; null: none plays
    this.onChange = onChange;
    this.isOpen = false;
    this.isLooking = false;
    this.calls = new Map(); // by id: {resolve, reject}
    this.nextId = 1;
    this.socket = openSocket(`${base}/debug`, "syndarix.debug.v1", {
      onOpen: () => {
        this.isOpen = true;
        this.look();
      },
      onMessage: (message) => this.receive(message),
      onClose: () => this.lose(),
    });
    setInterval(() => this.look(), LOOK_EVERY_MS);
  }

  /** Whether there is a run that can be steered. */
  get isPlaying() {
    return STEERABLE.includes(this.state?.state);
  }

  /** Call a method of the run; its result. */
  call(method, params = {}) {
    return new Promise((resolve, reject) => {
      const id = this.nextId;
      this.nextId += 1;
      if (!this.socket.send({ jsonrpc: "2.0", id, method, params })) {
        reject(new Error("the connection was cut; try again"));
        return;
      }
      this.calls.set(id, { resolve, reject });
    });
  }

  async look() {
    if (!this.isOpen || this.isLooking || this.isPlaying || document.hidden) return;
    this.isLooking = true;
    try {
      const found = (await this.call("run.list")).find(({ state }) => STEERABLE.includes(state));
      if (found) this.show(await this.call("run.attach", { run: found.run }));
    } catch {
      // Asked again.
    }
    this.isLooking = false;
  }

  receive({ id, method, params, result, error }) {
    if (method === "run.state" || method === "run.stopped") this.show(params);
    const asked = this.calls.get(id);
    if (!asked) return;
    this.calls.delete(id);
    if (error) asked.reject(new Error(error.message));
    else asked.resolve(result);
  }

  show(state) {
    if (this.isPlaying && state.run !== this.state.run) return; // of another run
    this.state = STEERABLE.includes(state.state) ? state : null;
    this.onChange();
  }

  lose() {
    this.isOpen = false;
    this.state = null;
    for (const { reject } of this.calls.values()) reject(new Error("the connection was cut; try again"));
    this.calls.clear();
    this.onChange();
  }
}

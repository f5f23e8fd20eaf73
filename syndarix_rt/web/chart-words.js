/** What a chart says to those who do not see it. */

const EVERY_MS = 5000; // a text that changes faster than it is read helps nobody

/** What is read at the cursor; see `Tip.show`. */
export function inWords({ time, title, unit, lines, note }) {
  const values = lines.map(({ name, text }) => `${name} ${text}`.trim()).join(", ");
  return sentences([title, time, values && `${values}${unit ? ` ${unit}` : ""}`, note]);
}

/** Those that there are. */
export function sentences(parts) {
  return parts.filter(Boolean).join(". ").concat(".");
}

/** The label of a canvas, which follows what is drawn in good time. */
export class Label {
  /** @param {function} describe the text, and whether it changes on and on */
  constructor(canvas, describe) {
    this.canvas = canvas;
    this.describe = describe;
    this.view = canvas.ownerDocument.defaultView;
    this.timer = 0; // until the next one
    this.isOutdated = false; // whether something was drawn that it does not tell
  }

  /** Something else was drawn. */
  update() {
    this.isOutdated = this.timer !== 0;
    if (this.isOutdated) return;
    const { text, goesOn } = this.describe();
    this.canvas.setAttribute("aria-label", text);
    if (!goesOn) return; // what comes next is news at once
    this.timer = this.view.setTimeout(() => {
      this.timer = 0;
      if (this.isOutdated) this.update();
    }, EVERY_MS);
  }

  /** What is drawn next is news at once. */
  stop() {
    this.view.clearTimeout(this.timer);
    this.timer = 0;
  }
}

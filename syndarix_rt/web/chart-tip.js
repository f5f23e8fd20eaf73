/** What is read at the cursor of a chart. */

const AWAY_PX = 14; // beside the hand, not below it
const EDGE_PX = 4;

/** A new element at the end of another. */
export function add(parent, tag, name = "") {
  const child = parent.appendChild(parent.ownerDocument.createElement(tag));
  if (name) child.className = name;
  return child;
}

export class Tip {
  constructor(root, canvas) {
    this.canvas = canvas;
    this.words = "";
    this.box = add(root, "div", "srt-tip");
    this.box.popover = "manual"; // above all else, and never cut off
    this.box.setAttribute("aria-hidden", "true"); // the chart says the same words
  }

  /**
   * @param {object | null} found {time, title, unit, lines: [{name, color, text, total}], note}; null: hide
   * @param {string} words the same as a text
   * @param {number} x and y: where on the canvas
   */
  show(found, words, x, y) {
    const { box } = this;
    if (!found) {
      if (box.matches(":popover-open")) box.hidePopover();
      return;
    }
    if (words !== this.words) this.fill(found);
    this.words = words;
    if (!box.matches(":popover-open")) box.showPopover();
    const view = box.ownerDocument.defaultView;
    const place = this.canvas.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = box;
    const right = place.left + x + AWAY_PX;
    const left = place.left + x - AWAY_PX - width;
    const isRight = right + width <= Math.min(view.innerWidth, place.right + AWAY_PX) || left < 0;
    const within = (at, size, room) => `${Math.max(EDGE_PX, Math.min(at, room - size - EDGE_PX))}px`;
    box.style.left = within(isRight ? right : left, width, view.innerWidth);
    box.style.top = within(place.top + y, height, view.innerHeight);
  }

  fill({ time, title, unit, lines, note }) {
    this.box.replaceChildren();
    const head = add(this.box, "p", "srt-head");
    add(head, "b").textContent = title ?? time;
    add(head, "span").textContent = title ? time : lines.length ? (unit ?? "") : "";
    const table = add(this.box, "div", "srt-lines");
    for (const { name, color, text, total } of lines) {
      add(table, "i").style.color = color || "transparent";
      add(table, "span", total ? "srt-total" : "").textContent = name;
      add(table, "b", total ? "srt-total" : "").textContent = text;
    }
    if (note) add(this.box, "p", "srt-remark").textContent = note;
  }
}

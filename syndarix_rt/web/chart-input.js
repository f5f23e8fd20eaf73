/** What a person does with a chart by mouse, pen, finger and keys, in places (CSS pixels from its left and top). */

const DRAG_PX = 6; // less is a click with an unsteady hand
const WHEEL_LINE_PX = 16;
const ZOOM_PER_PX = 0.002; // a notch of most wheels is 100 px

/**
 * Listen to a canvas.
 *
 * A wheel zooms with Ctrl, as a pinch on a touchpad does, or once the chart has the focus: else the page scrolls.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {object} on
 *   point(x, y)          the pointer is here; null: it has gone
 *   select(a, b, done)   a range is being dragged; null: it is given up
 *   zoom(x, factor)      the window shall be so many times as long, and x stay where it is
 *   pan(px)              the window shall move on by so many pixels
 *   live()               back to now
 *   key(name, steps)     "left", "right", "up", "down", "home", "end", "in", "out", "escape"; tell whether it is used
 *   blur()               the focus has gone
 * @returns {function} stop listening
 */
export function listen(canvas, on) {
  const stopping = new AbortController();
  const add = (name, handler, options) => {
    canvas.addEventListener(name, handler, { signal: stopping.signal, ...options });
  };
  const pointers = new Map(); // those that are down: id -> x
  let start = null; // where a drag began
  let spread = null; // {middle, size} of two fingers

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  const giveUp = () => {
    start = null;
    on.select(null);
  };

  add("pointerdown", (event) => {
    if (event.button > 0) return;
    const [x] = place(event);
    pointers.set(event.pointerId, x);
    canvas.setPointerCapture(event.pointerId);
    if (pointers.size === 1) start = x;
    else giveUp();
    spread = pointers.size === 2 ? stretch(pointers) : null;
  });

  add("pointermove", (event) => {
    const [x, y] = place(event);
    if (pointers.has(event.pointerId)) pointers.set(event.pointerId, x);
    if (spread && pointers.size === 2) {
      const { middle, size } = stretch(pointers);
      on.zoom(spread.middle, spread.size / size);
      on.pan(spread.middle - middle);
      spread = { middle, size };
    } else if (pointers.size < 2) {
      on.point(x, y);
      if (start !== null && Math.abs(x - start) >= DRAG_PX) on.select(start, x, false);
    }
  });

  add("pointerup", (event) => {
    pointers.delete(event.pointerId);
    spread = null;
    if (start === null) return;
    const [x, y] = place(event);
    if (Math.abs(x - start) >= DRAG_PX) on.select(start, x, true);
    else on.point(x, y);
    start = null;
  });

  add("pointercancel", (event) => {
    pointers.delete(event.pointerId);
    spread = null;
    giveUp();
  });

  add("pointerleave", (event) => {
    if (event.pointerType !== "touch") on.point(null); // a finger's answer stays until the chart is left
  });

  add("dblclick", () => on.live());

  add(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.metaKey && !canvas.matches(":focus")) return;
      event.preventDefault();
      const unit = event.deltaMode ? WHEEL_LINE_PX : 1;
      const [x] = place(event);
      const sideways = event.shiftKey ? event.deltaX || event.deltaY : event.deltaX;
      if (Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY)) on.pan(sideways * unit);
      else on.zoom(x, Math.exp(event.deltaY * unit * ZOOM_PER_PX));
    },
    { passive: false },
  );

  add("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const name = {
      ArrowLeft: "left",
      ArrowRight: "right",
      ArrowUp: "up",
      ArrowDown: "down",
      Home: "home",
      End: "end",
      "+": "in",
      "=": "in", // the same key without shift
      "-": "out",
      Escape: "escape",
    }[event.key];
    if (!name) return;
    if (name === "escape" && start !== null) giveUp();
    else if (!on.key(name, event.shiftKey ? 10 : 1)) return;
    event.preventDefault();
    event.stopPropagation();
  });

  add("blur", () => on.blur());

  return () => stopping.abort();
}

/** Two fingers at most as near to each other as a finger is wide. */
function stretch(pointers) {
  const [a, b] = [...pointers.values()];
  return { middle: (a + b) / 2, size: Math.max(Math.abs(a - b), 20) };
}

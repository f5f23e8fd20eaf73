/** When a chart is drawn: once a frame at most, less often where motion is not wanted, and anew when its looks change. */

const CALM_MS = 1000; // between drawings for who prefers less motion

export class Redraws {
  /** @param {function} draw draws the canvas */
  constructor(canvas, draw) {
    const document = canvas.ownerDocument;
    this.view = document.defaultView;
    this.paint = draw;
    this.frame = 0;
    this.later = 0; // the timer until the next drawing
    this.drawn = -Infinity; // when
    this.density = null; // changes when the page goes to another screen
    this.soon = this.soon.bind(this);
    this.watchDensity = this.watchDensity.bind(this);
    const media = (query) => this.view.matchMedia(query);
    this.calm = media("(prefers-reduced-motion: reduce)");
    this.schemes = ["(prefers-color-scheme: dark)", "(forced-colors: active)"].map(media);
    for (const scheme of this.schemes) scheme.addEventListener("change", this.soon);
    this.sizes = new this.view.ResizeObserver(this.soon);
    this.sizes.observe(canvas);
    this.themes = new this.view.MutationObserver(this.soon); // JupyterLab names its theme in attributes of the body
    this.themes.observe(document.body, { attributes: true });
    this.view.addEventListener("resize", this.soon); // zoom changes the device pixel ratio and not always our size
    this.watchDensity();
  }

  /** With the next frame. */
  soon() {
    if (!this.frame) this.frame = this.view.requestAnimationFrame(() => this.draw());
  }

  /** New data move the chart; not so often where motion is not wanted. */
  calmly() {
    const rest = this.calm.matches ? this.drawn + CALM_MS - this.view.performance.now() : 0;
    if (rest <= 0) this.soon();
    else this.later ||= this.view.setTimeout(() => this.draw(), rest);
  }

  /** Now, if there is something to be drawn. */
  flush() {
    if (this.frame || this.later) this.draw();
  }

  draw() {
    this.forget();
    this.drawn = this.view.performance.now();
    this.paint();
  }

  forget() {
    this.view.cancelAnimationFrame(this.frame);
    this.view.clearTimeout(this.later);
    [this.frame, this.later] = [0, 0];
  }

  watchDensity() {
    this.density?.removeEventListener("change", this.watchDensity);
    this.density = this.view.matchMedia(`(resolution: ${this.view.devicePixelRatio}dppx)`);
    this.density.addEventListener("change", this.watchDensity);
    this.soon();
  }

  /** Draw no more. */
  stop() {
    this.forget();
    this.sizes.disconnect();
    this.themes.disconnect();
    for (const scheme of this.schemes) scheme.removeEventListener("change", this.soon);
    this.density.removeEventListener("change", this.watchDensity);
    this.view.removeEventListener("resize", this.soon);
  }
}

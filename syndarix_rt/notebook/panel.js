
// What follows is put below a view: the adapter between the kernel's messages and it.

const ASK_AGAIN_MS = 1000; // a kernel that is busy answers late; asking more often would not help

/** Receive numbered messages; whoever misses one asks for everything. Returns what stops it. */
function listen(model, receive) {
  let next = null; // number of the message that must come; null: a reset
  let asked = -Infinity;

  function ask() {
    if (performance.now() - asked < ASK_AGAIN_MS) return;
    asked = performance.now();
    model.send({ op: "ready" });
  }

  function take(message) {
    if (message.op !== "reset" && message.seq !== next) {
      next = null;
      ask();
      return;
    }
    next = message.seq + 1;
    receive(message);
  }

  model.on("msg:custom", take);
  ask();
  return () => model.off("msg:custom", take);
}

export default {
  render({ model, el }) {
    const build = () => createView(el, model.get("options"), (message) => model.send(message));
    let view = build();
    const rebuild = () => {
      view.destroy?.();
      el.replaceChildren();
      view = build(); // a reset follows
    };
    const stop = listen(model, (message) => view.receive(message));
    model.on("change:options", rebuild);
    return () => {
      stop();
      model.off("change:options", rebuild);
      view.destroy?.();
    };
  },
};

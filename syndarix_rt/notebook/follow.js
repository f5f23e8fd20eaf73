
// What follows is put below what draws: between the kernel's messages and it.

const ASK_AGAIN_MS = 1000; // a kernel that is busy answers late; asking more often would not help

/**
 * Receive numbered messages and their buffers. Messages may be dropped on the way, as Jupyter does when a cell prints too
 * much; whoever misses one asks for everything. Other options make another view, which begins with a reset. Returns what
 * stops it.
 */
function follow(model, receive, rebuild) {
  let next = null; // number of the message that must come; null: a reset
  let asked = -Infinity;

  function ask() {
    if (performance.now() - asked < ASK_AGAIN_MS) return;
    asked = performance.now();
    model.send({ op: "ready" });
  }

  function take(message, buffers) {
    if (message.op !== "reset" && message.seq !== next) {
      next = null;
      ask();
      return;
    }
    next = message.seq + 1;
    receive(message, buffers);
  }

  function renew() {
    rebuild();
    next = null;
  }

  model.on("msg:custom", take);
  model.on("change:options", renew);
  ask();
  return () => {
    model.off("msg:custom", take);
    model.off("change:options", renew);
  };
}

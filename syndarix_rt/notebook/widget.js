
// What follows is put below the modules of the chart: the adapter between the kernel's messages and a chart.

const ASK_AGAIN_MS = 1000; // a kernel that is busy answers late; asking more often would not help

export default {
  render({ model, el }) {
    let chart = createChart(el, model.get("options"));
    let next = null; // number of the message that must come; null: a reset
    let asked = -Infinity;

    function ask() {
      if (performance.now() - asked < ASK_AGAIN_MS) return;
      asked = performance.now();
      model.send({ op: "ready" });
    }

    function receive({ op, seq, now, text, ...state }, [buffer]) {
      if (op !== "reset" && seq !== next) {
        // Messages were dropped on the way, as Jupyter does when a cell prints too much; what they said is lost.
        next = null;
        ask();
        return;
      }
      next = seq + 1;
      const rows = new Float64Array(buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + buffer.byteLength));
      if (op === "reset") {
        chart.reset({ ...state, rows, now: now ?? NaN });
      } else {
        if (state.span !== undefined) chart.span(...(state.span ?? []));
        chart.push(rows, now ?? NaN);
        state.gaps.forEach((gap) => chart.gap(...gap));
        state.marks.forEach((mark) => chart.mark(...mark));
      }
      if (text) chart.end(text);
    }

    function rebuild() {
      chart.destroy();
      chart = createChart(el, model.get("options"));
      next = null; // a reset follows
    }

    model.on("msg:custom", receive);
    model.on("change:options", rebuild);
    ask();
    return () => {
      model.off("msg:custom", receive);
      model.off("change:options", rebuild);
      chart.destroy();
    };
  },
};

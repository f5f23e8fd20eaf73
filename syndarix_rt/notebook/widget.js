export default {
  render({ model, el }) {
    let chart = createChart(el, model.get("options"));
    const rebuild = () => {
      chart.destroy();
      chart = createChart(el, model.get("options"));
    };
    const receive = ({ op, now, text, ...state }, [buffer]) => {
      const rows = new Float64Array(buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + buffer.byteLength));
      if (op === "reset") {
        chart.reset({ ...state, rows, now: now ?? NaN });
      } else {
        if (state.span !== undefined) chart.span(...(state.span ?? []));
        chart.push(rows, now ?? NaN);
        state.gaps.forEach((gap) => chart.gap(...gap));
      }
      if (text) chart.end(text);
    };
    const stop = follow(model, receive, rebuild);
    return () => {
      stop();
      chart.destroy();
    };
  },
};

export default {
  render({ model, el }) {
    const build = () => createView(el, model.get("options"), (message) => model.send(message));
    let view = build();
    const rebuild = () => {
      view.destroy?.();
      el.replaceChildren();
      view = build(); // a reset follows
    };
    const stop = follow(model, (message) => view.receive(message));
    model.on("change:options", rebuild);
    return () => {
      stop();
      model.off("change:options", rebuild);
      view.destroy?.();
    };
  },
};

export default {
  render({ model, el }) {
    const build = () => createView(el, model.get("options"), (message) => model.send(message));
    let view = build();
    const rebuild = () => {
      view.destroy?.();
      el.replaceChildren();
      view = build();
    };
    const stop = follow(model, (message) => view.receive(message), rebuild);
    return () => {
      stop();
      view.destroy?.();
    };
  },
};


export default {
  render({ model, el }) {
    const line = make("p", "srt-panel srt-status", "", { role: "status", "aria-live": "off" });
    const dot = line.appendChild(make("i", "srt-dot"));
    const words = line.appendChild(make("span"));
    el.append(line);
    return listen(model, (content) => {
      dot.dataset.level = content.level;
      words.textContent = content.line;
    });
  },
};

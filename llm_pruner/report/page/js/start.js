// The head of the page, the filter for all parts, and the parts in their order.
function drawBar() {
  for (const button of find("mechanisms").children) button.setAttribute("aria-pressed", !state.off.has(button.dataset.name));
  find("count").textContent = `${matching().length} of ${data.models.length} models`;
}

function toggle(name) {
  if (!state.off.delete(name)) state.off.add(name);
  changed();
}

function startBar() {
  const facts = data.facts.map(([title, text]) => `${title}: ${text}`);
  find("facts").textContent = [`${data.models.length} models, compared with ${data.base}`, ...facts].join(" · ");
  for (const { name } of data.mechanisms) {
    const button = make("button", { type: "button", "data-name": name, onclick: () => toggle(name) }, name || "unknown");
    paint(button, name);
    find("mechanisms").append(button);
  }
  find("filter").addEventListener("input", (event) => {
    state.words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    changed();
  });
  onChange(drawBar);
  drawBar();
}

if (data.models.length) {
  state.chosen = bestPruned();
  startBar();
  startChart();
  startDetails();
  drawBest();
  startTable();
  startCompare();
  startLayers();
} else {
  document.querySelector("main").replaceChildren(make("p", {}, "No model was measured yet."));
}

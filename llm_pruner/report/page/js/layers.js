// The heat map: a row for each model, a column for each layer of the base.
function heatCell(share) {
  if (share === null) return make("td", { class: "gap" });
  const percent = Math.round(100 * share);
  const cell = make("td", { class: share > 0.55 ? "high" : null }, percent ? String(percent) : "");
  cell.style.setProperty("--share", share);
  return cell;
}

function drawLayers() {
  for (const button of find("blocks").children) button.setAttribute("aria-pressed", button.dataset.block === state.block);
  const heads = ["Model", ...data.layers.titles].map((title) => make("th", { scope: "col" }, title));
  find("heat").tHead.replaceChildren(make("tr", {}, ...heads));
  const rows = matching().filter((row) => data.models[row].name !== data.base && !data.models[row].parent);
  find("heat").tBodies[0].replaceChildren(
    ...rows.map((row) => make("tr", {}, make("th", { scope: "row" }, nameButton(row)), ...data.layers.blocks[state.block][row].map(heatCell))),
  );
}

function startLayers() {
  if (!data.layers.titles.length) {
    find("layers").hidden = true;
    return;
  }
  const choose = (block) => {
    state.block = block;
    drawLayers();
  };
  const blocks = Object.keys(data.layers.blocks);
  find("blocks").replaceChildren(
    ...blocks.map((block) => make("button", { type: "button", "data-block": block, onclick: () => choose(block) }, block)),
  );
  onChange(drawLayers);
  drawLayers();
}

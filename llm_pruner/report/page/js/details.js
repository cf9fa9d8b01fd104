// The chosen model's numbers beside the chart.
function drawDetails() {
  const row = state.chosen;
  find("selected").value = row === null ? "" : data.models[row].name;
  find("to-left").disabled = find("to-right").disabled = row === null;
  const cells = [];
  data.columns.forEach((column, place) => {
    const text = row === null ? "" : data.texts[row][place];
    if (text && column.compact && column.key !== "variant") cells.push(make("dt", {}, column.title), make("dd", {}, text));
  });
  find("cells").replaceChildren(...cells);
}

function startDetails() {
  const names = data.models.map(({ name }) => [name, name]);
  fillSelect(find("selected"), [["", "Choose one, or a point of the chart"], ...names], "");
  find("selected").addEventListener("change", (event) => choose(rowOf.get(event.target.value) ?? null));
  find("to-left").addEventListener("click", () => compareWith("left", state.chosen));
  find("to-right").addEventListener("click", () => compareWith("right", state.chosen));
  onChange(drawDetails);
  drawDetails();
}

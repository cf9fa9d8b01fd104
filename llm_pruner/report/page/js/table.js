// The table of all models: sorting, filter and choice of columns.
function order(rows) {
  const place = byKey.get(state.sort.column);
  if (place === undefined) return rows;
  const value = (row) => data.values[row][place];
  const direction = state.sort.up ? 1 : -1;
  const compare = data.columns[place].kind === "text" ? (a, b) => a.localeCompare(b, undefined, { numeric: true }) : (a, b) => a - b;
  // empty cells come last in either direction
  return [...rows].sort((a, b) => {
    if (value(a) === null || value(b) === null) return (value(a) === null) - (value(b) === null);
    return direction * compare(value(a), value(b));
  });
}

function sortBy(key) {
  state.sort = { column: key, up: state.sort.column === key ? !state.sort.up : true };
  drawTable();
  find("table").querySelector(`[data-key="${CSS.escape(key)}"] button`)?.focus();
}

function shownColumns() {
  return data.columns.map((column, place) => [column, place]).filter(([column]) => column.key === "variant" || state.shown.has(column.key));
}

function drawTable() {
  const columns = shownColumns();
  const heads = columns.map(([column]) => {
    const sorted = state.sort.column === column.key ? (state.sort.up ? "ascending" : "descending") : "none";
    const button = make("button", { type: "button", onclick: () => sortBy(column.key) }, column.title);
    return make("th", { scope: "col", "aria-sort": sorted, "data-key": column.key, class: column.kind === "text" ? "text" : null }, button);
  });
  find("table").tHead.replaceChildren(make("tr", {}, ...heads));
  const rows = order(matching()).map((row) => {
    const cells = columns.map(([column, place]) =>
      column.key === "variant"
        ? make("th", { scope: "row" }, nameButton(row))
        : make("td", { class: column.kind === "text" ? "text" : null }, data.texts[row][place]),
    );
    return make("tr", { class: row === state.chosen ? "chosen" : null }, ...cells);
  });
  find("table").tBodies[0].replaceChildren(...rows);
}

function drawChoice() {
  const boxes = data.columns
    .filter((column) => column.key !== "variant")
    .map((column) => {
      const place = byKey.get(column.key);
      const empty = data.values.every((row) => row[place] === null);
      const box = make("input", { type: "checkbox", value: column.key, disabled: empty });
      box.checked = state.shown.has(column.key) && !empty;
      box.addEventListener("change", () => {
        if (box.checked) state.shown.add(column.key);
        else state.shown.delete(column.key);
        drawTable();
      });
      return make("label", {}, box, empty ? `${column.title} (not measured)` : column.title);
    });
  find("columns").replaceChildren(...boxes);
}

function showColumns(wanted) {
  state.shown = new Set(data.columns.filter(wanted).map((column) => column.key));
  hideEmpty();
  drawChoice();
  drawTable();
}

function hideEmpty() {
  for (const [key, place] of byKey) if (data.values.every((row) => row[place] === null)) state.shown.delete(key);
}

function startTable() {
  hideEmpty();
  find("columns-all").addEventListener("click", () => showColumns(() => true));
  find("columns-compact").addEventListener("click", () => showColumns((column) => column.compact));
  find("note").textContent = data.note;
  drawChoice();
  onChange(drawTable);
  drawTable();
}

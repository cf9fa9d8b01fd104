// Two models: every number of both, and the texts that both write.
const number = new Intl.NumberFormat("en", { maximumSignificantDigits: 3, signDisplay: "exceptZero" });
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0, signDisplay: "exceptZero" });

function differenceText(kind, difference) {
  const written = differenceNumber(kind, difference);
  return written.replace("-", "−");
}

function differenceNumber(kind, difference) {
  if (kind === "share") return `${number.format(100 * difference)} points`;
  if (kind === "bytes") return Math.abs(difference) >= 1e9 ? `${number.format(difference / 1e9)} GB` : `${number.format(difference / 1e6)} MB`;
  return (kind === "count" ? whole : number).format(difference);
}

function verdict(key, difference) {
  const known = [...data.qualities, ...data.sizes].find((one) => one.key === key);
  if (!known || !difference) return "";
  return difference > 0 === known.more ? "better" : "worse";
}

function drawDifferences() {
  const { left, right } = state;
  const heads = ["", data.models[left].name, data.models[right].name, "B − A", "B / A − 1"];
  find("differences").tHead.replaceChildren(make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head))));
  const rows = [];
  data.columns.forEach((column, place) => {
    const [a, b] = [data.values[left][place], data.values[right][place]];
    if (column.key === "variant" || (a === null && b === null)) return;
    const cells = [make("td", {}, data.texts[left][place]), make("td", {}, data.texts[right][place])];
    if (column.kind === "text" || a === null || b === null) cells.push(make("td"), make("td"));
    else {
      const judged = verdict(column.key, b - a);
      const share = a > 0 && column.kind !== "share" && b < 100 * a ? `${number.format(100 * (b / a - 1)).replace("-", "−")} %` : "";
      cells.push(make("td", { class: judged, title: judged }, differenceText(column.kind, b - a)), make("td", {}, share));
    }
    rows.push(make("tr", {}, make("th", { scope: "row" }, column.title), ...cells));
  });
  find("differences").tBodies[0].replaceChildren(...rows);
}

// The common beginning of two texts, letter by letter, up to the end of a word.
function sameBeginning(a, b) {
  let length = 0;
  while (length < Math.min(a.length, b.length) && a[length] === b[length]) length++;
  if (length === a.length && length === b.length) return length;
  return a.slice(0, length).search(/\s\S*$/) + 1;
}

function saidBy(row, text, same) {
  const told = text === null ? make("p", { class: "quiet" }, "not asked") : make("blockquote", {}, make("span", { class: "same" }, text.slice(0, same).trimStart()), same ? text.slice(same) : text.trimStart());
  return make("div", {}, make("h4", {}, data.models[row].name), told);
}

function drawSaid() {
  const { left, right } = state;
  const blocks = data.prompts.map((prompt, place) => {
    const [a, b] = [left, right].map((row) => data.models[row].continuations[place]);
    const same = a === null || b === null ? 0 : sameBeginning(a, b);
    return make("div", { class: "prompt" }, make("p", {}, prompt), make("div", { class: "pair" }, saidBy(left, a, same), saidBy(right, b, same)));
  });
  const head = [make("h3", {}, "What both write"), make("p", { class: "quiet" }, "Greedy continuations of the same beginnings; grey is what both write alike.")];
  find("said").replaceChildren(...(blocks.length ? [...head, ...blocks] : []));
}

function drawCompare() {
  find("left").value = data.models[state.left].name;
  find("right").value = data.models[state.right].name;
  drawDifferences();
  drawSaid();
}

function startCompare() {
  state.left = rowOf.get(data.base) ?? 0;
  state.right = state.chosen;
  for (const side of ["left", "right"]) {
    fillSelect(find(side), data.models.map(({ name }) => [name, name]), data.models[state[side]].name);
    find(side).addEventListener("change", (event) => compareWith(side, rowOf.get(event.target.value)));
  }
  find("swap").addEventListener("click", () => {
    [state.left, state.right] = [state.right, state.left];
    changed();
  });
  onChange(drawCompare);
  drawCompare();
}

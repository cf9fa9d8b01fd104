// The current state of the page, and helpers for all parts.
const data = JSON.parse(document.getElementById("data").textContent);
const byKey = new Map(data.columns.map((column, place) => [column.key, place]));
const rowOf = new Map(data.models.map((model, row) => [model.name, row]));
const colours = new Map(data.mechanisms.map((one) => [one.name, one.colour]));
const state = {
  words: [],
  off: new Set(),
  chosen: null,
  left: null,
  right: null,
  sort: { column: null, up: true },
  shown: new Set(data.columns.filter((column) => column.compact).map((column) => column.key)),
  block: Object.keys(data.layers.blocks)[0],
};
const listeners = [];

function onChange(draw) {
  listeners.push(draw);
}

function changed() {
  for (const draw of listeners) draw();
}

function find(id) {
  return document.getElementById(id);
}

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") element.addEventListener("click", value);
    else if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

function fillSelect(select, options, value) {
  select.replaceChildren(...options.map(([key, title, disabled]) => make("option", { value: key, disabled }, title)));
  select.value = value;
}

const searched = data.models.map((model, row) =>
  [model.mechanism, ...data.columns.map((column, place) => (column.kind === "text" ? data.texts[row][place] : ""))]
    .join(" ")
    .toLowerCase(),
);

function isOn(row) {
  return !state.off.has(data.models[row].mechanism);
}

function matches(row) {
  return isOn(row) && state.words.every((word) => searched[row].includes(word));
}

function matching() {
  return data.models.map((_, row) => row).filter(matches);
}

// A button that chooses a model, with the colour of the model's mechanism.
function nameButton(row) {
  const { name, mechanism } = data.models[row];
  const button = make("button", { type: "button", class: "name", title: name, onclick: () => choose(row) }, name);
  paint(button, mechanism);
  return button;
}

function paint(element, mechanism) {
  const colour = colours.get(mechanism);
  if (colour) element.style.setProperty("--own", colour);
}

// The model shown first: the best pruned model without steps, by the first measured quality.
function bestPruned() {
  const rows = data.models.map((_, row) => row).filter((row) => data.models[row].name !== data.base);
  const quality = data.qualities.find((one) => one.measured);
  const cost = (row) => (quality.more ? -1 : 1) * data.values[row][quality.column];
  const judged = quality ? rows.filter((row) => !data.models[row].parent && data.values[row][quality.column] !== null) : [];
  return judged.sort((a, b) => cost(a) - cost(b))[0] ?? rows[0] ?? 0;
}

function choose(row) {
  state.chosen = row;
  changed();
}

function compareWith(side, row) {
  state[side] = row;
  changed();
}

function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// Quality against size: points, the front, and arrows from parents to models after a step.
const settings = {
  responsive: true,
  displaylogo: false,
  modeBarButtons: [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]],
  toImageButtonOptions: { filename: "quality_against_size" },
};
const axes = { y: data.qualities, x: data.sizes };

function axis(letter) {
  return axes[letter].find((one) => one.key === find(letter).value);
}

function isLog(letter) {
  return find(`${letter}-scale`).value === "log";
}

function valueOn(one, row) {
  return one.ofWeights && data.models[row].quantized ? null : data.values[row][one.column];
}

function isFar(y, row) {
  if (y.limit === null || !find("edge").checked || valueOn(y, row) === null) return false;
  return y.more ? valueOn(y, row) < y.limit : valueOn(y, row) > y.limit;
}

// Places of the models. Outliers stand at the edge, one above the other, the worst outermost, so that they do not
// flatten the rest.
function places(y, rows) {
  const sign = y.more ? -1 : 1;
  const far = rows.filter((row) => isFar(y, row)).sort((a, b) => sign * (valueOn(y, a) - valueOn(y, b)));
  const measured = data.values.map((_, row) => valueOn(y, row)).filter((value) => value !== null);
  const apart = 0.03 * Math.abs(y.limit - (y.more ? Math.max(...measured) : Math.min(...measured)));
  const at = new Map(rows.map((row) => [row, valueOn(y, row)]));
  far.forEach((row, place) => at.set(row, isLog("y") ? y.limit * 1.09 ** (sign * place) : y.limit + sign * place * apart));
  return at;
}

// plotly interprets some HTML in its texts
function plain(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

// Rows that no other row beats in size and quality, by size; equal rows together. Sizes are equal if their first three
// digits are: models that differ by a few stray zeros are of one size.
function front(rows, x, y) {
  const cost = (row) => (y.more ? -1 : 1) * valueOn(y, row);
  const size = (row) => Number(valueOn(x, row).toPrecision(3));
  const sorted = [...rows].sort((a, b) => size(a) - size(b) || cost(a) - cost(b));
  const found = [];
  for (const row of sorted) {
    const best = found.at(-1);
    if (best === undefined || cost(row) < cost(best) || (cost(row) === cost(best) && size(row) === size(best)))
      found.push(row);
  }
  return found;
}

function symbol(model, far, more) {
  if (far) return more ? "triangle-down" : "triangle-up";
  if (model.name === data.base) return "star";
  if (model.control) return "x";
  return model.parent ? "diamond" : "circle";
}

function hoverText(row, x, y) {
  const told = [y, x].map((one) => `${plain(one.label)}: ${plain(data.texts[row][one.column])}`);
  const error = y.error === null ? "" : data.texts[row][y.error];
  if (error) told[0] += ` ± ${plain(error)}`;
  const { name, mechanism, control } = data.models[row];
  const kind = [plain(mechanism), control ? "control" : ""].filter(Boolean).join(", ");
  return [`<b>${plain(name)}</b>`, ...told, kind].filter(Boolean).join("<br>");
}

function plotAxis(letter, one, values) {
  const kind = data.columns[one.column].kind;
  const best = letter === "x" ? "smaller is better" : one.more ? "higher is better" : "lower is better";
  const narrow = find("chart").clientWidth < 500;
  return {
    title: { text: narrow ? plain(one.label) : `${plain(one.label)} <i>(${best})</i>`, font: { size: 13 }, standoff: 12 },
    type: isLog(letter) ? "log" : "linear",
    tickformat: { share: ",.0%", bytes: "~s" }[kind],
    ticksuffix: kind === "bytes" ? "B" : "",
    exponentformat: "B",
    minexponent: 3,
    nticks: narrow ? 5 : 9,
    gridcolor: css("--faint"),
    linecolor: css("--line"),
    zeroline: false,
    automargin: true,
    fixedrange: narrow,
    ...(isLog(letter) ? logTicks(values) : {}),
  };
}

// Ticks of a logarithmic axis at 1, 2 and 5: plotly's own ticks are too many, or none on a short axis.
function logTicks(values) {
  if (!values.length) return {};
  const [low, high] = [Math.min(...values), Math.max(...values)].map(Math.log10);
  // at most about ten
  const steps = high - low > 3 ? [1] : high - low > 1.2 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9];
  const ticks = [];
  for (let power = Math.floor(low) - 1; power <= high + 1; power++) ticks.push(...steps.map((step) => step * 10 ** power));
  return { tickmode: "array", tickvals: ticks.filter((tick) => tick < 1.4 * 10 ** high) };
}

function drawChart() {
  const [x, y] = [axis("x"), axis("y")];
  const all = data.models.map((_, row) => row).filter(isOn);
  const measured = all.filter((row) => valueOn(x, row) !== null && valueOn(y, row) !== null);
  const drawn = measured.filter(
    (row) => (!isLog("x") || valueOn(x, row) > 0) && (!isLog("y") || valueOn(y, row) > 0),
  );
  const best = front(drawn, x, y);
  const xs = (rows) => rows.map((row) => valueOn(x, row));
  const at = places(y, drawn);
  const ys = (rows) => rows.map((row) => at.get(row));
  const steps = drawn.map((row) => [rowOf.get(data.models[row].parent), row]).filter(([parent]) => drawn.includes(parent));
  const quiet = { mode: "lines", hoverinfo: "skip" };
  const traces = [
    {
      ...quiet,
      x: steps.flatMap((pair) => [...xs(pair), null]),
      y: steps.flatMap((pair) => [...ys(pair), null]),
      line: { color: css("--line"), width: 1.5 },
    },
    { ...quiet, x: xs(best), y: ys(best), line: { shape: "hv", dash: "dash", color: css("--quiet"), width: 1.4 } },
  ];
  for (const { name } of data.mechanisms) {
    const rows = drawn.filter((row) => data.models[row].mechanism === name);
    const colour = colours.get(name) ?? css("--ink");
    traces.push({
      type: "scatter",
      mode: "markers",
      x: xs(rows),
      y: ys(rows),
      customdata: rows,
      text: rows.map((row) => hoverText(row, x, y)),
      hovertemplate: "%{text}<extra></extra>",
      error_y: errors(rows, y, colour),
      marker: {
        color: colour,
        symbol: rows.map((row) => symbol(data.models[row], isFar(y, row), y.more)),
        size: rows.map((row) => (data.models[row].name === data.base ? 15 : 10) + (row === state.chosen ? 6 : 0)),
        opacity: rows.map((row) => (matches(row) ? 1 : 0.12)),
        line: { width: rows.map((row) => (row === state.chosen ? 2.5 : 1)), color: rows.map((row) => css(row === state.chosen ? "--ink" : "--paper")) },
      },
    });
  }
  const far = drawn.filter((row) => isFar(y, row)).length;
  const shown = layout(x, y, xs(drawn), ys(drawn), far);
  shown.annotations = readable(labels(x, y, at, named(best, drawn)), xs(drawn), ys(drawn));
  Plotly.react(find("chart"), traces, shown, settings);
  tellGaps(all.length - measured.length, measured.length - drawn.length, far);
}

function errors(rows, y, colour) {
  if (y.error === null) return undefined;
  const array = rows.map((row) => (isFar(y, row) ? 0 : (data.values[row][y.error] ?? 0)));
  return { type: "data", array, color: colour, thickness: 1, width: 0, visible: true };
}

// Models named in the chart: the front and the reference models. The pointer names every model.
function named(best, drawn) {
  if (find("chart").clientWidth < 500) return [];
  const base = drawn.filter((row) => data.models[row].name === data.base);
  const controls = drawn.filter((row) => data.models[row].control);
  return [...new Set([...base, ...best, ...(controls.length > 3 ? [] : controls)])].filter(matches);
}

// Labels without those that would cover an earlier label. Positions are those of the labels, logarithms on a logarithmic
// axis.
function readable(labels, xs, ys) {
  const across = isLog("x") ? xs.map(Math.log10) : xs;
  const upwards = isLog("y") ? ys.map(Math.log10) : ys;
  const along = (values, value, length) => ((value - Math.min(...values)) / (Math.max(...values) - Math.min(...values) || 1)) * length;
  const kept = [];
  for (const label of labels) {
    const width = 6.3 * label.text.length;
    const start = along(across, label.x, find("chart").clientWidth - 140) - (label.xanchor === "right" ? width : 0);
    const top = along(upwards, label.y, find("chart").clientHeight - 110);
    if (kept.every((other) => start > other.start + other.width || other.start > start + width || Math.abs(top - other.top) > 13))
      kept.push({ label, start, width, top });
  }
  return kept.map(({ label }) => label);
}

// The ground beyond the limit has another colour, because outliers there do not stand at their numbers.
function offScale(y, ys, far) {
  if (!far) return [];
  const away = y.more ? 1 / 1.04 : 1.04;
  const end = y.more ? Math.min(...ys) : Math.max(...ys);
  const sides = { xref: "paper", x0: 0, x1: 1, yref: "y", y0: y.limit / away, y1: end * away };
  return [{ type: "rect", ...sides, layer: "below", line: { width: 0 }, fillcolor: css("--raised") }];
}

function labels(x, y, at, rows) {
  const scaled = (letter, value) => (isLog(letter) ? Math.log10(value) : value);
  const sizes = [...at.keys()].map((row) => valueOn(x, row));
  const middle = (Math.min(...sizes) + Math.max(...sizes)) / 2;
  return rows.map((row) => ({
    x: scaled("x", valueOn(x, row)),
    y: scaled("y", at.get(row)),
    text: plain(data.models[row].name) + (isFar(y, row) ? ` ${plain(data.texts[row][y.column])}` : ""),
    showarrow: false,
    xanchor: valueOn(x, row) > middle ? "right" : "left",
    yanchor: y.more ? "bottom" : "top",
    xshift: valueOn(x, row) > middle ? -7 : 7,
    yshift: y.more ? 4 : -4,
    font: { size: 11, color: css("--ink") },
  }));
}

function layout(x, y, xs, ys, far) {
  return {
    margin: { l: 56, r: 16, t: 12, b: 48 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: css("--quiet") },
    showlegend: false,
    modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--quiet"), activecolor: css("--ink") },
    hovermode: "closest",
    hoverdistance: 24,
    hoverlabel: { bgcolor: css("--raised"), bordercolor: css("--line"), font: { color: css("--ink"), size: 13 }, align: "left", namelength: -1 },
    xaxis: plotAxis("x", x, xs),
    yaxis: plotAxis("y", y, far ? ys.filter((value) => (y.more ? value > y.limit : value < y.limit)) : ys),
    shapes: offScale(y, ys, far),
    uirevision: [x.key, y.key, isLog("x"), isLog("y")].join(),
  };
}

function tellGaps(missing, nonpositive, far) {
  const told = [];
  if (missing) told.push(`${missing} not drawn: not measured in both.`);
  if (nonpositive) told.push(`${nonpositive} not drawn: at zero or below, where a logarithmic scale has no place.`);
  if (far) told.push(`${far} drawn at the edge, far worse than the rest.`);
  find("gaps").textContent = told.join(" ");
}

// A scale is logarithmic if values are far apart, except for a loss against the base, which is a logarithm already.
function usualScale(letter) {
  const one = axis(letter);
  const rows = data.models.map((_, row) => row).filter((row) => valueOn(one, row) !== null);
  const values = rows.filter((row) => letter === "x" || !isFar(one, row)).map((row) => valueOn(one, row));
  const wide = values.length > 1 && Math.min(...values) > 0 && Math.max(...values) > 3 * Math.min(...values);
  find(`${letter}-scale`).value = wide && letter === "y" ? "log" : "linear";
}

function startChart() {
  for (const letter of ["y", "x"]) {
    const options = axes[letter].map((one) => [one.key, one.measured ? one.label : `${one.label} (not measured)`, !one.measured]);
    const first = axes[letter].find((one) => one.measured);
    fillSelect(find(letter), options, first?.key ?? "");
    if (!first) return hideChart();
    usualScale(letter);
    find(letter).addEventListener("change", () => (usualScale(letter), drawChart()));
    find(`${letter}-scale`).addEventListener("change", drawChart);
  }
  find("edge").addEventListener("change", () => (usualScale("y"), drawChart()));
  tellKey();
  onChange(drawChart);
  drawChart();
  find("chart").on("plotly_click", (event) => {
    const row = event.points[0].customdata;
    if (row !== undefined) choose(row);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawChart);
}

function hideChart() {
  find("chart").hidden = true;
  find("gaps").textContent = "There is nothing to draw yet: no model has both a size and a quality.";
}

function tellKey() {
  const key = [["★", data.base]];
  if (data.models.some((model) => model.control)) key.push(["✕", "control, by chance"]);
  if (data.models.some((model) => model.parent)) key.push(["◆", "after a further step"]);
  key.push(["╌", "best at its size"]);
  find("key").replaceChildren(...key.map(([mark, text]) => make("span", {}, make("b", {}, mark), text)));
}

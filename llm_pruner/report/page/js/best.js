// The best models within shares of the base's size.
function drawBest() {
  const { titles, kinds, rows, note } = data.best;
  find("best").hidden = rows.length === 0;
  const kind = (place) => (kinds[place] === "text" ? "text" : null);
  const heads = titles.map((title, place) => make("th", { scope: "col", class: kind(place) }, title));
  find("best-table").tHead.replaceChildren(make("tr", {}, ...heads));
  const lines = rows.map((row) => make("tr", {}, ...row.map((text, place) => make("td", { class: kind(place) }, text))));
  find("best-table").tBodies[0].replaceChildren(...lines);
  find("best-note").textContent = note;
}

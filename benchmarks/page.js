// Sorting and filtering of the table of all cases. Without it, the page has the whole table in the order of measuring.
"use strict";
const table = document.getElementById("cases");
const controls = document.getElementById("controls");
const body = table.tBodies[0];
const rows = [...body.rows];
const count = document.getElementById("count");

function filter() {
  const words = controls.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
  const chosen = ["group", "mode", "threads"].map((name) => [name, controls.elements[name].value]);
  let shown = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    const fits = words.every((word) => text.includes(word))
      && chosen.every(([name, value]) => !value || row.dataset[name] === value)
      && (!controls.elements.below.checked || row.dataset.below === "yes");
    row.hidden = !fits;
    shown += fits;
  }
  count.textContent = `${shown} of ${rows.length} rows`;
}

function sort(heading, column) {
  const descending = heading.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const numeric = !heading.classList.contains("text");
  const compare = (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (numeric && (x === "" || y === "")) return (x === "") - (y === ""); // what was not measured comes last
    const order = numeric ? x - y : x.localeCompare(y, undefined, { numeric: true });
    return descending ? -order : order;
  };
  body.append(...rows.sort(compare));
}

[...table.tHead.rows[0].cells].forEach((heading, column) => {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = heading.textContent;
  heading.replaceChildren(button);
  button.addEventListener("click", () => sort(heading, column));
});
controls.hidden = false;
controls.addEventListener("input", filter);
controls.addEventListener("submit", (event) => event.preventDefault());
filter();

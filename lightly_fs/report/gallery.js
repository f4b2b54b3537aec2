"use strict";
const get = (id) => document.getElementById(id);
const theme = get("theme");
const root = document.documentElement;
const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
const showTheme = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; showTheme(); });
showTheme();

const shownOf = (rows, shown, count, what) => { count.textContent = shown === rows.length ? `${shown} ${what}` : `${shown} of ${rows.length} ${what}`; };

const list = get("items");
if (list) {
  const items = [...list.children];
  const filter = () => {
    const words = get("search").value.toLowerCase();
    const kind = get("kind").value;
    let shown = 0;
    for (const item of items) {
      item.hidden = !item.dataset.name.toLowerCase().includes(words) || (kind === "stands" && !item.dataset.stands);
      shown += item.hidden ? 0 : 1;
    }
    shownOf(items, shown, get("count"), "images");
  };
  const orders = {
    rank: (a, b) => a.dataset.rank - b.dataset.rank,
    name: (a, b) => (a.dataset.name < b.dataset.name ? -1 : 1),
    distance: (a, b) => b.dataset.distance - a.dataset.distance,
  };
  get("search").addEventListener("input", filter);
  get("kind").addEventListener("change", filter);
  get("order").addEventListener("change", (event) => list.append(...items.sort(orders[event.target.value])));
  filter();
}

const failures = get("failures");
if (failures) {
  const rows = [...failures.children];
  const filter = () => {
    const words = get("failure-search").value.toLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(words);
    shownOf(rows, rows.filter((row) => !row.hidden).length, get("failure-count"), "rows");
  };
  get("failure-search").addEventListener("input", filter);
  filter();
}

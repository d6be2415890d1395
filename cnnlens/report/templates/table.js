// Many rows as a table or as tiles, which can be sorted, searched and filtered.
//
// columns: [{ key, title, sort(row) or null, first: -1 | 1, cell(row), right, label, order }]; those
// that are `only` an order stand in no table
// filters: [{ node, test() -> (row -> bool) or null }]
// tile: row -> node; without it there is the table alone; looked: which of both comes first
class ManyRows {
  constructor({ name, label, word, columns, rows, filters, template, height, sorted, open, tile, looked = "Tiles", above }) {
    Object.assign(this, { rows, word, columns, filters, open, key: sorted, direction: 1 });
    this.shown = rows;
    this.count = h("output", { "aria-live": "polite" });
    this.body = h("tbody", { role: "rowgroup" });
    this.heads = new Map(columns.filter(({ only }) => !only).map((column) => [column.key, this.head(column)]));
    this.nothing = h("p", { class: "empty", hidden: true }, `No ${word} fits. `, this.resetButton());
    const head = h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, [...this.heads.values()]));
    this.table = h("table", { class: `many ${name}-table`, role: "table", "aria-label": label, vars: { "--columns": template, "--row": height } }, head, this.body);
    this.lines = new Windowed(this.table, this.body, (row) => this.row(row));
    const views = tile ? this.tiles(tile, label, looked) : null;
    const controls = h("div", { class: "controls", role: "search" }, filters.map((f) => f.node), tile ? this.orders() : null, this.count, views);
    this.node = h("div", {}, controls, above, this.table, this.gallery?.scroller, this.nothing);
    for (const { node } of filters) node.addEventListener("input", () => this.later());
    this.body.addEventListener("click", (event) => this.clicked(event));
    this.body.addEventListener("keydown", (event) => this.moved(event));
    this.sortBy(sorted);
  }

  // Tiles beside the table: a button each.
  tiles(tile, label, looked) {
    const body = h("div", { class: "tiles" }), box = h("div", { class: "tile-box", role: "group", "aria-label": label }, body);
    const across = () => Math.max(1, getComputedStyle(body).gridTemplateColumns.split(" ").length);
    this.gallery = new Windowed(box, body, tile, across);
    body.addEventListener("keydown", (event) => this.stepped(event, across()));
    const buttons = ["Tiles", "Table"].map((title) => h("button", { type: "button", onclick: () => this.look(title) }, title));
    this.look = (title) => {
      buttons.forEach((button) => button.setAttribute("aria-pressed", button.textContent === title));
      [box.hidden, this.table.hidden] = [title !== "Tiles", title !== "Table"];
      this.view.later();
    };
    this.look(looked);
    return h("span", { class: "choice" }, buttons);
  }

  // Arrow keys move from tile to tile.
  stepped(event, across) {
    const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across }[event.key];
    const row = [...this.gallery.nodes].find(([, node]) => node === event.target)?.[0];
    const next = by && row && this.shown[this.shown.indexOf(row) + by];
    if (!next) return;
    event.preventDefault();
    this.gallery.reveal(next)?.focus({ preventScroll: true });
  }

  get view() {
    return this.gallery && this.table.hidden ? this.gallery : this.lines;
  }

  orders() {
    const options = this.columns.filter((column) => column.sort).map((column) => h("option", { value: column.key }, column.order ?? column.title));
    this.order = h("select", { "aria-label": "Order", oninput: (event) => this.sortBy(event.target.value, true) }, options);
    return h("label", {}, this.order);
  }

  head({ key, title, sort, right, label }) {
    const content = sort ? h("button", { type: "button", title: label, onclick: () => this.sortBy(key) }, title) : title;
    return h("th", { role: "columnheader", scope: "col", class: `c-${key}${right ? " right" : ""}${sort ? "" : " still-head"}` }, content);
  }

  resetButton() {
    const reset = () => {
      for (const { node } of this.filters) for (const input of node.querySelectorAll("input, select")) {
        if (input.type === "checkbox") input.checked = false;
        else input.value = "";
      }
      this.update();
      this.focusSearch();
    };
    return h("button", { type: "button", class: "link", onclick: reset }, "Clear search and filters");
  }

  sortBy(key, anew = false) {
    const column = this.columns.find((one) => one.key === key);
    this.direction = this.key === key && this.wasSorted && !anew ? -this.direction : column.first ?? 1;
    if (this.order) this.order.value = key;
    this.wasSorted = true;
    this.key = key;
    for (const [name, head] of this.heads) {
      if (name !== key) head.removeAttribute("aria-sort");
      else head.setAttribute("aria-sort", this.direction > 0 ? "ascending" : "descending");
    }
    this.update();
  }

  later() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.update());
  }

  update() {
    const tests = this.filters.map((filter) => filter.test()).filter(Boolean);
    const { sort } = this.columns.find((column) => column.key === this.key);
    const keyed = [];
    this.rows.forEach((row, index) => {
      if (tests.every((test) => test(row))) keyed.push([sort(row), index, row]);
    });
    keyed.sort((a, b) => compare(a[0], b[0], this.direction) || a[1] - b[1]);
    this.shown = keyed.map(([, , row]) => row);
    this.lines.show(this.shown);
    this.gallery?.show(this.shown);
    this.then?.();
    this.nothing.hidden = this.shown.length > 0;
    const all = this.shown.length === this.rows.length;
    this.count.textContent = all ? plural(this.rows.length, this.word) : `${whole(this.shown.length)} of ${plural(this.rows.length, this.word)}`;
  }

  row(row) {
    const cells = this.columns.filter(({ only }) => !only).map(({ key, cell, right }) => h("td", { role: "cell", class: `c-${key}${right ? " right" : ""}` }, cell(row)));
    const node = h("tr", { role: "row" }, cells);
    node.row = row;
    return node;
  }

  clicked(event) {
    const node = event.target.closest("tr");
    if (node && !event.target.closest("a") && !String(getSelection())) this.open(node.row);
  }

  moved(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const cell = event.target.closest("td"), row = event.target.closest("tr")?.row;
    const next = step && cell && this.shown[this.shown.indexOf(row) + step];
    if (!next) return;
    event.preventDefault();
    this.lines.reveal(next)?.querySelector(`.${cell.classList[0]} a`)?.focus({ preventScroll: true });
  }

  reveal(row) {
    const node = this.view.reveal(row);
    (node?.querySelector("a") ?? node)?.focus({ preventScroll: true });
  }

  focusSearch() {
    this.node.querySelector("input[type=search]").focus();
  }
}

const words = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

// What is missing comes last, whichever way the table is sorted.
function compare(a, b, direction) {
  const missing = (a === null || a === "") - (b === null || b === "");
  if (missing || a === b) return missing;
  return direction * (typeof a === "string" ? words.compare(a, b) : a - b);
}

function searchBox(label, texts) {
  const input = h("input", { type: "search", placeholder: label, "aria-label": label, autocomplete: "off", spellcheck: "false" });
  const test = () => {
    const sought = soughtIn(input.value);
    return sought.length > 0 && ((row) => sought.every((word) => texts(row).some((text) => text.toLowerCase().includes(word.text))));
  };
  return { node: h("label", {}, input, h("kbd", { title: "Press / to search" }, "/")), test };
}

// choices: [[text, row -> bool], ...]; the first choice of the list is always "all".
function choice(label, all, choices) {
  const options = choices.map(([text], index) => h("option", { value: index }, text));
  const select = h("select", { "aria-label": label }, h("option", { value: "" }, all), options);
  return { node: h("label", {}, select), test: () => select.value !== "" && choices[select.value][1] };
}

function tick(label, test) {
  const input = h("input", { type: "checkbox" });
  return { node: h("label", {}, input, label), test: () => input.checked && test };
}

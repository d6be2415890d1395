// What units respond to: a gallery of tiles per layer, and what opens from them.
const TILES = 60, MORE_TILES = 240; // tiles put into the page at once, and in each later turn

const tileNearing = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      tileNearing.unobserve(target);
      target.style.setProperty("--strip", `url("${pictures.src(target.strip)}")`);
    }
  },
  { rootMargin: "400px" },
);

const share = (part) => (part === null ? "–" : `${Number((100 * part).toPrecision(part < 0.1 ? 2 : 3))} %`);

class RespondingLayer {
  constructor(data, box) {
    Object.assign(this, data, { box });
    this.unitOf = new Map(this.units.map((unit) => [unit.unit, unit]));
    this.tileOf = new Map();
    this.shown = this.units;
    this.orders = [
      ["highest peak first", (u) => -u.peak],
      ["most often above 0 first", (u) => -u.density],
      ["most seldom above 0 first", (u) => (u.dead ? Infinity : u.density)],
      ["most selective first", (u) => -(u.selectivity ?? -1)],
      ["by category", (u) => u.category ?? "\uffff"],
      ["by number", (u) => u.unit],
    ].filter(([title]) => this.hasCategories || !/selective|category/.test(title));
    this.start();
  }

  start() {
    const options = this.orders.map(([title], index) => h("option", { value: index }, title));
    this.order = h("select", { "aria-label": `Order of the units of ${this.name}` }, options);
    this.filters = [searchBox(this.hasCategories ? "Unit number or category" : "Unit number or image", (u) => [u.category ?? "", this.images[u.top[0]?.[0]] ?? ""]), tick("dead too", null)];
    this.filters[0].node.querySelector("kbd").remove(); // the key is the table's of dissected units
    this.count = h("output", { "aria-live": "polite" });
    this.tiles = h("div", { class: "tiles" });
    const controls = h("div", { class: "controls", role: "search" }, this.filters[0].node, h("label", {}, this.order), this.units.some((u) => u.dead) ? this.filters[1].node : null, this.count);
    for (const node of [this.order, ...this.filters.map((f) => f.node)]) node.addEventListener("input", () => this.update());
    this.box.append(h("div", { class: "screen" }, controls, this.tiles));
    this.update();
  }

  update() {
    const [search, dead] = this.filters, fits = search.test(), withDead = dead.node.querySelector("input").checked;
    const value = this.orders[this.order.value || 0][1];
    this.shown = this.units.filter((u) => (withDead || !u.dead) && (!fits || fits(u)));
    this.shown.sort((a, b) => compare(value(a), value(b), 1) || a.unit - b.unit);
    const all = this.shown.length === this.units.length;
    this.count.textContent = all ? plural(this.units.length, "unit") : `${whole(this.shown.length)} of ${plural(this.units.length, "unit")}`;
    this.tiles.replaceChildren();
    this.put(TILES);
  }

  put(count) {
    clearTimeout(this.waiting);
    const from = this.tiles.childElementCount;
    this.tiles.append(...this.shown.slice(from, from + count).map((unit) => this.tile(unit)));
    if (from + count < this.shown.length) this.waiting = setTimeout(() => this.put(MORE_TILES), 0);
  }

  link(unit) {
    return panel.link("unit", this.name, unit);
  }

  tile(unit) {
    if (this.tileOf.has(unit)) return this.tileOf.get(unit);
    const cells = Array.from({ length: Math.min(4, unit.top.length) }, (_, index) => cellOf(index, Math.min(unit.top.length, this.strip)));
    const seen = unit.category ?? (unit.dead ? "dead" : share(unit.density));
    const words = h("span", { class: "caption" }, h("b", {}, unit.unit), " ", h("span", { class: "name", title: unit.category === null ? "Share of its values above 0" : "Most frequent category among its highest peaks" }, seen));
    const node = h("a", { class: "tile", href: this.link(unit.unit), "aria-label": `Unit ${unit.unit} of ${this.name}` }, h("span", { class: "four" }, unit.dead ? [] : cells), words);
    if (!unit.dead && unit.pictures) {
      node.strip = this.key("pictures", unit.unit);
      tileNearing.observe(node);
    }
    this.tileOf.set(unit, node);
    return node;
  }

  key(kind, unit) {
    return `units/${this.folder}/${kind}/${unit}.webp`;
  }

  show(unit) {
    const list = this.shown.includes(unit) ? this.shown : this.units;
    return {
      where: h("span", { class: "name" }, this.name),
      title: `Unit ${unit.unit}`,
      content: [...responses(this, unit), ...picturesAtUnit(this, unit)],
      list,
      index: list.indexOf(unit),
      hash: (other) => this.link(other.unit),
      back: "#units",
      reveal: () => {
        this.put(this.shown.length);
        this.tileOf.get(unit)?.focus();
      },
    };
  }
}

// Cell `index` of a strip of `count`, cut out of it by its background position.
function cellOf(index, count) {
  const at = count > 1 ? `${(index / (count - 1)) * 100}%` : "0";
  return h("span", { class: "cut", vars: { "--count": count, "--at": at } });
}

// What the panel of a unit shows of its responses.
function responses(layer, unit) {
  return [responseFacts(layer, unit), highest(layer, unit), wholeRange(layer, unit), spread(layer, unit)].filter(Boolean);
}

function responseFacts(layer, unit) {
  const strong = (text) => h("b", {}, text);
  if (unit.dead) return h("p", { class: "sub" }, fact("", strong("dead")), fact("", "never above 0 on these images"));
  return h("p", { class: "sub" },
    unit.category === null ? null : fact("", strong(h("span", { class: "name" }, unit.category)), ` in ${share(unit.share)} of its highest peaks`),
    fact("highest peak", strong(short(unit.peak))),
    fact("above 0", strong(share(unit.density))),
    fact("mean", short(unit.mean)),
    unit.selectivity === null ? null : fact("class selectivity", fixed(unit.selectivity, 2)),
    unit.entropy === null ? null : fact("entropy of categories", `${fixed(unit.entropy, 2)} bits`));
}

function highest(layer, unit) {
  if (unit.dead || !unit.pictures) return null;
  const count = Math.min(unit.top.length, layer.strip), src = pictures.src(layer.key("pictures", unit.unit));
  const cells = unit.top.slice(0, count).map(([image, peak], index) => {
    const name = layer.images[image], cell = cellOf(index, count);
    cell.setAttribute("role", "img");
    cell.setAttribute("aria-label", name);
    return h("li", {}, cell, h("div", { class: "caption" }, h("span", { class: "file name", title: name }, name.split("/").pop()), `peak ${short(peak)}`));
  });
  return h("div", {}, h("h3", {}, "Highest peaks"), h("ol", { class: "cells", vars: { "--strip": `url("${src}")` } }, cells));
}

function wholeRange(layer, unit) {
  if (unit.dead || !unit.pictures) return null;
  const total = unit.counts.reduce((a, b) => a + b, 0);
  const labels = unit.counts.map((count, bin) => h("span", { title: `peaks from ${short(unit.from + bin * unit.step)} to ${short(unit.from + (bin + 1) * unit.step)}: ${plural(count, "image")}` }, share(count / total), h("br"), h("span", { class: "small" }, `to ${short(unit.from + (bin + 1) * unit.step)}`)));
  const picture = h("img", { src: pictures.src(layer.key("examples", unit.unit)), alt: `Examples over the range of unit ${unit.unit}` });
  return h("div", { class: "range" }, h("h3", {}, "Over its whole range"), picture, h("div", { class: "bins", vars: { "--bins": unit.counts.length } }, labels),
    h("p", { class: "small" }, "Images drawn at random from bins of equal width, low peaks to the left; below, the share of images there and how far the bin reaches."));
}

function spread(layer, unit) {
  const near = unit.near.map(([name, number, r]) => {
    const other = respondingLayers.find((one) => one.name === name), there = other?.unitOf.get(number);
    const words = `${name === layer.name ? "" : `${name}:`}${number}`;
    return h("li", {}, there ? h("a", { class: "name", href: other.link(number) }, words) : h("span", { class: "name" }, words), h("span", {}, `r ${fixed(r, 2)}`), strip(there?.pictures ? other.key("pictures", number) : null, `Top images of unit ${number} of ${name}`));
  });
  return h("div", { class: "pair" },
    near.length ? h("div", {}, h("h3", {}, "Units that respond alike"), h("ol", { class: "units near" }, near)) : null,
    unit.histogram ? h("div", {}, h("h3", {}, "All its values, log counts"), histogram(unit.histogram, null)) : null);
}

const respondingLayers = [];

function startUnits({ layers }) {
  document.documentElement.classList.add("js");
  for (const box of document.querySelectorAll(".responses")) respondingLayers.push(new RespondingLayer(layers[box.dataset.responses], box));
  const find = (name) => respondingLayers.find((layer) => layer.name === name);
  const before = panel.routes.unit;
  panel.routes.unit = (parts) => {
    const known = before?.(parts);
    if (known) return known;
    const layer = find(parts.slice(0, -1).join(":")), unit = layer?.unitOf.get(Number(parts.at(-1)));
    return unit ? layer.show(unit) : null;
  };
  // where a unit was dissected, too, its panel has both
  unitBlocks.splice(1, 0, (dissected, unit) => {
    const layer = find(dissected.name), mine = layer?.unitOf.get(unit.unit);
    if (!mine) return null;
    return [...responses(layer, { ...mine, histogram: null }), mine.dead ? null : h("h3", {}, "Where it is above its threshold")];
  });
}

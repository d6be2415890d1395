// Dissection: a layer's units and concepts as tables, and what opens from them.
class DissectedLayer {
  constructor(data, categories, section) {
    Object.assign(this, data, { categories, section });
    this.unitOf = new Map(this.units.map((unit) => [unit.unit, unit]));
    this.longest = Math.max(...this.units.map((unit) => unit.iou), this.minIou ?? 0, 1e-9);
  }

  // Tables are made when the layer is first looked at.
  start() {
    if (this.tables) return;
    this.tables = { units: this.unitTable(), concepts: this.concepts.length ? this.conceptTable() : null };
    const shown = Object.entries(this.tables).filter(([, table]) => table);
    const titles = { units: `Units (${whole(this.units.length)})`, concepts: `Concepts (${whole(this.concepts.length)})` };
    const panes = shown.map(([name, table]) => [titles[name], table.node]);
    this.tabs = tabs(panes, `Units and concepts of ${this.name}`);
    this.section.querySelector(".explorer").append(shown.length > 1 ? this.tabs.node : "", ...panes.map(([, node]) => node));
  }

  get table() {
    this.start();
    return this.tables.concepts && !this.tables.concepts.node.hidden ? this.tables.concepts : this.tables.units;
  }

  colour(category) {
    return category === null ? "var(--muted)" : `var(--cat-${category})`;
  }

  kind(category) {
    if (category === null) return "–";
    return h("span", { class: "kind" }, this.swatch(category), h("span", { class: "name" }, this.categories[category]));
  }

  swatch(category) {
    return h("i", { class: "swatch", vars: { "--c": this.colour(category) } });
  }

  unitLink(unit) {
    return panel.link("unit", this.name, unit);
  }

  conceptLink(concept) {
    return panel.link("concept", this.name, this.categories[concept.category] ?? "", concept.label);
  }

  // A concept's name, linked to its units where they are known.
  named(label, index, extra = "") {
    if (!label) return h("span", { class: "name" }, "none");
    const concept = index === null ? undefined : this.concepts[index];
    const attributes = { class: `name ${extra}`, title: label };
    return concept ? h("a", { ...attributes, href: this.conceptLink(concept) }, label) : h("span", attributes, label);
  }

  gauge(iou, category) {
    if (iou === null) return "–";
    const track = h("span", { class: "track", vars: { "--v": iou / this.longest, "--c": this.colour(category) } }, h("i", { class: "fill" }));
    return h("span", { class: "gauge", title: String(iou) }, h("span", {}, fixed(iou, 3)), track);
  }

  categoryChoice(rows) {
    const used = this.categories.map((name, index) => [name, index]).filter(([, index]) => rows.some((row) => row.category === index));
    return choice("Category", "all categories", used.map(([name, index]) => [name, (row) => row.category === index]));
  }

  unitTable() {
    const columns = [
      { key: "unit", title: "Unit", sort: (u) => u.unit, first: 1, cell: (u) => [h("a", { class: "number", href: this.unitLink(u.unit), "aria-label": `Unit ${u.unit}` }, u.unit), u.dead ? h("span", { class: "mark" }, u.dead) : null] },
      { key: "label", title: "Concept", sort: (u) => u.label, first: 1, cell: (u) => h("span", { class: u.detector ? "" : "weak" }, this.named(u.label, u.concept, "label")) },
      { key: "category", title: "Category", sort: (u) => this.categories[u.category] ?? "", first: 1, cell: (u) => this.kind(u.category) },
      { key: "iou", title: "IoU", sort: (u) => u.iou, first: -1, cell: (u) => this.gauge(u.iou, u.category) },
      { key: "p", title: "p", label: "Share of shuffled units that reach this IoU", sort: (u) => u.p, first: 1, cell: (u) => pText(u.p), right: true },
      { key: "strip", title: "Images that excite it most", sort: null, cell: (u) => strip(u.picture, `Top images of unit ${u.unit}`) },
    ].filter(({ key }) => key !== "p" || this.hasP);
    const filters = [
      searchBox("Concept or unit number", (u) => [u.label]),
      this.categoryChoice(this.units),
      tick("detectors only", (u) => u.detector),
    ];
    if (this.hasP) filters.push(choice("p-value", "any p", [0.05, 0.01].map((limit) => [`p < ${limit}`, (u) => u.p !== null && u.p < limit])));
    return new ManyRows({ name: "units", label: `Units of ${this.name}`, word: "unit", columns, rows: this.units, filters, template: `3.6rem minmax(7rem, 12rem) 6.5rem 8.5rem ${this.hasP ? "4.6rem " : ""}minmax(10rem, 1fr)`, height: "76px", sorted: "iou", open: (u) => go(this.unitLink(u.unit)) });
  }

  conceptTable() {
    const columns = [
      { key: "label", title: "Concept", sort: (c) => c.label, first: 1, cell: (c) => h("a", { class: "name label", href: this.conceptLink(c), title: c.label }, c.label) },
      { key: "category", title: "Category", sort: (c) => this.categories[c.category] ?? "", first: 1, cell: (c) => this.kind(c.category) },
      { key: "detectors", title: "Detectors", label: "Detectors whose best label this is", sort: (c) => c.detectors, first: -1, cell: (c) => whole(c.detectors), right: true },
      { key: "iou", title: "Best IoU", sort: (c) => c.iou, first: -1, cell: (c) => this.gauge(c.iou, c.category) },
      { key: "unit", title: "Best unit", sort: (c) => c.bestUnit, first: 1, right: true, cell: (c) => (c.bestUnit === null ? "–" : h("a", { href: this.unitLink(c.bestUnit), "aria-label": `Unit ${c.bestUnit}` }, c.bestUnit)) },
      { key: "pixels", title: "Pixels", sort: (c) => c.pixels, first: -1, cell: (c) => whole(c.pixels), right: true },
      { key: "images", title: "Images", sort: (c) => c.images, first: -1, cell: (c) => whole(c.images), right: true },
    ];
    const filters = [searchBox("Concept", (c) => [c.label]), this.categoryChoice(this.concepts), tick("with detectors", (c) => c.detectors > 0)];
    return new ManyRows({ name: "concepts", label: `Concepts in ${this.name}`, word: "concept", columns, rows: this.concepts, filters, template: "minmax(8rem, 1fr) 7rem 5.5rem 9rem 5.5rem 7rem 5rem", height: "40px", sorted: "iou", open: (c) => go(this.conceptLink(c)) });
  }

  // -- a unit ------------------------------------------------------------------------------------

  showUnit(unit) {
    this.start();
    const table = this.tables.units, list = table.shown.includes(unit) ? table.shown : this.units;
    return {
      where: h("span", { class: "name" }, this.name),
      title: `Unit ${unit.unit}`,
      content: unitBlocks.map((block) => block(this, unit)).flat().filter(Boolean),
      list,
      index: list.indexOf(unit),
      hash: (other) => this.unitLink(other.unit),
      back: panel.link("layer", this.name),
      reveal: () => table.reveal(unit),
    };
  }

  showConcept(concept) {
    this.start();
    const table = this.tables.concepts, list = table.shown.includes(concept) ? table.shown : this.concepts;
    return {
      where: h("span", { class: "name" }, this.name),
      title: h("span", { class: "name" }, concept.label),
      content: [conceptFacts(this, concept), conceptUnits(this, concept)],
      list,
      index: list.indexOf(concept),
      hash: (other) => this.conceptLink(other),
      back: panel.link("layer", this.name),
      reveal: () => table.reveal(concept),
    };
  }
}

// What the panel of a unit shows, top to bottom: (layer, unit) -> node, nodes or null.
const unitBlocks = [unitFacts, unitImages, unitMeasures, picturesAtUnit];

function fact(term, ...value) {
  return h("span", {}, term && h("span", {}, term), ...value);
}

function unitFacts(layer, unit) {
  const strong = (text) => h("b", {}, text);
  return [
    h("p", { class: "sub" },
      fact("", unit.category === null ? null : layer.swatch(unit.category), strong(layer.named(unit.label, unit.concept)), unit.category === null ? null : h("span", { class: "name" }, layer.categories[unit.category])),
      fact("IoU", strong(fixed(unit.iou, 4))),
      layer.hasP ? fact(h("i", {}, "p"), strong(pText(unit.p))) : null,
      fact("", unit.detector ? "detector" : "not a detector"),
      unit.dead ? fact("", strong(unit.dead)) : null),
    unit.dead ? h("p", { class: "small" }, asleep(layer, unit)) : null,
  ];
}

function asleep(layer, unit) {
  if (unit.dead === "dead") return "It gives one and the same value everywhere on this data.";
  return `Its threshold is 0: at most ${layer.quantile === null ? "a few" : Number((100 * layer.quantile).toPrecision(3)) + " %"} of its activations on this data are above 0.`;
}

function unitImages(layer, unit) {
  const src = pictures.src(unit.picture);
  if (!src && !unit.top.length) return null;
  const list = h("ol", { class: "cells" });
  const put = (count) => {
    list.replaceChildren(...Array.from({ length: Math.max(count, unit.top.length) }, (_, index) => imageCell(layer, unit, index, count, src)));
  };
  put(0);
  if (src) {
    const probe = new Image();
    probe.onload = () => put(Math.max(1, Math.round(probe.naturalWidth / probe.naturalHeight)));
    probe.src = src;
  }
  return list;
}

// Cell `index` of the strip, cut out of it by its background position.
function imageCell(layer, unit, index, count, src) {
  const [image, peak] = unit.top[index] ?? [null, null];
  const cell = h("span", { class: "cell", role: "img", "aria-label": `Image ${index + 1}` });
  if (src && index < count) {
    cell.style.backgroundImage = `url("${src}")`;
    cell.style.backgroundSize = `${count * 100}% 100%`;
    cell.style.backgroundPosition = `${count > 1 ? (index / (count - 1)) * 100 : 0}% 0`;
  }
  const name = image === null ? null : layer.images[image];
  const file = name && h("span", { class: "file name", title: name }, name.split("/").pop());
  return h("li", {}, src ? cell : null, h("div", { class: "caption" }, file, peak === null ? null : `peak ${short(peak)}`));
}

function unitMeasures(layer, unit) {
  return h("div", { class: "pair" },
    h("div", {}, unit.near.length ? [h("h3", {}, "Its best concepts"), nearest(layer, unit), layer.minIou === null ? null : h("p", { class: "small" }, `The line marks IoU ${layer.minIou}, from where a unit is a detector.`)] : null),
    h("div", {},
      unit.histogram ? [h("h3", {}, "Its activations, log counts"), histogram(unit.histogram, unit.threshold)] : [h("h3", {}, "Threshold"), h("p", {}, unit.threshold === null ? "–" : String(unit.threshold))],
      unit.best.length ? [h("h3", {}, "Best in each category"), bestByCategory(layer, unit)] : null));
}

function nearest(layer, unit) {
  const longest = Math.max(unit.near[0][1], layer.minIou ?? 0);
  return h("ol", { class: "ranks" }, unit.near.map(([index, iou]) => {
    const concept = layer.concepts[index];
    return rank([layer.swatch(concept.category), layer.named(concept.label, index)], iou, longest, layer.colour(concept.category), layer.minIou);
  }));
}

function bestByCategory(layer, unit) {
  const longest = Math.max(...unit.best.map((best) => best.iou), layer.minIou ?? 0);
  return h("ul", { class: "ranks" }, unit.best.map((best) =>
    rank([layer.swatch(best.category), h("span", { class: "small name" }, layer.categories[best.category]), layer.named(best.label, best.concept)], best.iou, longest, layer.colour(best.category), layer.minIou)));
}

// Pictures that other methods made of this unit.
function picturesAtUnit(layer, unit) {
  const mine = atUnit.filter((picture) => picture.layer === layer.name && picture.unit === unit.unit);
  return mine.map(({ title, caption, picture }) =>
    h("div", { class: "extra" }, h("h3", {}, title), h("img", { src: pictures.src(picture), alt: `${title}, unit ${unit.unit}` }), h("p", { class: "small" }, caption)));
}

// -- a concept -------------------------------------------------------------------------------------

function conceptFacts(layer, concept) {
  return h("p", { class: "sub" },
    fact("", layer.kind(concept.category)),
    concept.images === null ? null : fact("on", h("b", {}, plural(concept.images, "image"))),
    concept.pixels === null ? null : fact("", h("b", {}, plural(concept.pixels, "pixel"))),
    fact("", concept.detectors ? `best label of ${plural(concept.detectors, "detector")}` : "no unit’s best label"));
}

function conceptUnits(layer, concept) {
  if (!concept.top.length) return h("p", {}, "No unit overlaps with it.");
  const rows = concept.top.map(([number, iou]) => {
    const unit = layer.unitOf.get(number);
    return h("li", {}, h("a", { href: layer.unitLink(number) }, `unit ${number}`), h("span", {}, fixed(iou, 3)), strip(unit?.picture ?? null, `Top images of unit ${number}`));
  });
  return [h("h3", {}, "Its best units"), h("ol", { class: "units" }, rows)];
}

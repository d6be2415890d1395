// Dissection: a layer's concepts as a table, and what opens from it; its units are among all units.
class DissectedLayer {
  constructor(data, categories, section) {
    Object.assign(this, data, { categories, section });
    this.unitOf = new Map(this.units.map((unit) => [unit.unit, unit]));
    this.sight = data.seen && new Sight(data, data.files);
    this.longest = Math.max(...this.units.map((unit) => unit.iou), this.minIou ?? 0, 1e-9);
  }

  // The table is made when the layer is first looked at.
  start() {
    if (this.table || !this.concepts.length) return;
    this.table = this.conceptTable();
    this.section.querySelector(".explorer").append(h("h3", {}, "Concepts"), this.table.node);
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

  showConcept(concept) {
    this.start();
    const { table } = this, list = table.shown.includes(concept) ? table.shown : this.concepts;
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
  const tiles = concept.top.map(([number, iou]) => {
    const unit = allUnits.find(layer.name, number);
    const strips = unit?.found?.picture ? strip(unit.found.picture, `Top images of unit ${number}`) : h("div", { class: "row" }, unit ? fewImages(unit, 6) : []);
    return h("li", {}, h("a", { href: layer.unitLink(number) }, `unit ${number}`), h("span", {}, fixed(iou, 3)), strips);
  });
  return [h("h3", {}, "Its best units"), h("ol", { class: "units" }, tiles)];
}

// Units: all that can be known of each, as tiles and as a table over all layers.
const share = (part) => (part === null || part === undefined ? "–" : `${Number((100 * part).toPrecision(part < 0.1 ? 2 : 3))} %`);
const TILED = 4; // images on a tile

// A unit: what `units` measured (peak, top, …), what dissection found (in `found`), or one of them.
class UnitLayer {
  constructor(data, files, order, dissected) {
    Object.assign(this, { name: data.name, data: data.data, measured: data.measured, order, dissected });
    this.link = (unit) => panel.link("unit", this.name, unit);
    this.pictured = (data.files ?? []).some((file) => file >= 0);
    this.sight = data.responses && new Sight(data, data.files.map((file) => files[file] ?? null));
    [this.more, this.facts, this.classes] = [data.more, data.facts, data.classes];
    [this.called, this.worst] = [data.names, data.worst];
    this.strongest = data.strongest;
    this.lower = (data.images ?? []).map((name) => name.toLowerCase());
    this.unitOf = new Map();
    const { unit: numbers = [], ...columns } = data.responses ?? {};
    numbers.forEach((unit, row) => {
      const known = { layer: this, unit, row, found: null };
      for (const key in columns) known[key] = columns[key][row];
      this.unitOf.set(unit, known);
    });
    for (const found of dissected?.units ?? []) this.unit(found.unit).found = found;
    for (const picture of atUnit) if (picture.layer === this.name) this.unit(picture.unit);
    for (const number of [...Object.keys(data.names), ...Object.keys(data.worst)]) this.unit(Number(number));
    for (const unit of this.unitOf.values()) unit.names = (data.names[unit.unit] ?? []).map(nameOf).sort(betterName);
    this.units = [...this.unitOf.values()].sort((a, b) => a.unit - b.unit);
  }

  unit(number) {
    if (!this.unitOf.has(number)) this.unitOf.set(number, { layer: this, unit: number, row: null, found: null, peak: null, density: null, class: null, telling: null, selectivity: null, share: null, chance: null, dead: 0, top: [] });
    return this.unitOf.get(number);
  }

  // What opens of a unit, read when it opens.
  opened(unit) {
    if (unit.row === null || unit.dead) return null;
    const [peaks, maps, bottom, examples, counts, range, near, spread, makeup] = JSON.parse(this.more[unit.row]);
    return { peaks, maps, bottom, examples, counts, range, near, spread, makeup };
  }
}

// A name, in the order in which the page writes it.
function nameOf([source, text, measure, score, chance, p, verdict, examScore, examChance, examP, passes]) {
  return { source, text, measure, score, chance, p, verdict, examScore, examChance, examP, passes };
}

// Those that pass their exam first, then by its score, then by their own.
const betterName = (a, b) => b.passes - a.passes || (b.examScore ?? 0) - (a.examScore ?? 0) || (b.score ?? 0) - (a.score ?? 0);
const examOf = (unit) => unit.names.find((name) => name.verdict) ?? null;
const worstOf = (unit) => unit.layer.worst[unit.unit] ?? null;
// What a class loses without the unit: accuracy where that is sure, else score.
const lossOf = ([name, accuracy, score]) => {
  const [lost, of] = accuracy < 0 ? [fixed(-accuracy, 3), "accuracy"] : [short(-score), "score"];
  const words = accuracy < 0 || score < 0 ? `${name} loses ${lost} of its ${of}` : "no class loses";
  return h("span", { class: "label", title: words }, h("span", { class: "name" }, name), h("span", { class: "small" }, accuracy < 0 || score < 0 ? ` −${lost}${accuracy < 0 ? " acc." : ""}` : " ±0"));
};

const isDead = (unit) => Boolean(unit.dead || unit.found?.dead === "dead");
const pairs = (flat) => Array.from({ length: flat.length / 2 }, (_, at) => [flat[2 * at], flat[2 * at + 1]]);
// Its number, and its layer where there are several.
const whereOf = (unit) => [h("b", {}, unit.unit), allUnits.layers.length > 1 ? h("span", { class: "small name" }, ` ${unit.layer.name}`) : null];

// Its best name that is not the column of concepts already.
const otherName = (unit) => unit.names.find((name) => name.source !== "label maps") ?? null;

// The first images of a unit, or of its strip where nothing but the dissection is known.
function fewImages(unit, most) {
  const { sight, pictured } = unit.layer;
  if (pictured && unit.top.length) return pairs(unit.top).slice(0, most).map(([image, place]) => sight.see(image, place));
  const labelled = unit.layer.dissected?.sight;
  if (labelled && unit.found?.top.length) return unit.found.top.slice(0, most).map(([image, , place]) => labelled.see(image, place));
  const src = pictures.src(unit.found?.picture ?? null), count = unit.found?.top.length ?? 0;
  if (src) return Array.from({ length: Math.min(most, count || most) }, (_, index) => cellOf(src, index, count));
  const made = atUnit.find((one) => one.layer === unit.layer.name && one.unit === unit.unit);
  return made && !isDead(unit) ? [alone(made)] : [];
}

// A picture that fills a tile; of a sheet one part, since all of it would be too small to see: the
// first, or where parts follow each other over a training the last, which is the unit as it is now.
function alone({ method, title, picture, small, apart }) {
  const src = pictures.src(small ?? picture), part = small === picture ? apart.at(method === "evolve" ? -1 : 0) : null;
  if (!part) return h("img", { class: "alone", src, alt: title });
  const [words, box] = part;
  return svg("svg", { class: "alone", viewBox: box.join(" "), preserveAspectRatio: "xMinYMid slice", role: "img", "aria-label": `${title}: ${words}` }, svg("image", { href: src }));
}

// Cell `index` of a strip of `count`, cut out of it by its background position.
function cellOf(src, index, count) {
  const at = count > 1 ? `${(index / (count - 1)) * 100}%` : "0";
  return h("span", { class: "cut", vars: { "--strip": `url("${src}")`, "--count": count || 1, "--at": at } });
}

// Its most frequent class, where that is more than chance gives.
const classOf = (unit) => (unit.telling ? unit.class : null);

// What it detects, where it does; else its class, else how often it is above 0.
function wordsOf(unit) {
  if (isDead(unit)) return "dead";
  if (unit.found?.detector) return unit.found.label;
  return unit.names.find((name) => name.passes)?.text ?? classOf(unit) ?? (unit.density === null ? "" : `above 0: ${share(unit.density)}`);
}

const isUnsure = (unit) => (unit.found?.detector ? typeof unit.found.p === "number" && unit.found.p >= 0.05 : !classOf(unit) && !unit.names.some((name) => name.passes));

function tileOf(unit, extra = null, name = whereOf(unit)) {
  const seen = wordsOf(unit), { found } = unit;
  const title = found?.detector ? `IoU ${fixed(found.iou, 3)}${typeof found.p === "number" ? `, p ${pText(found.p)}` : ""}` : seen;
  const words = h("span", { class: "caption" }, h("span", {}, name), extra ?? h("span", { class: `name${isUnsure(unit) ? " weak" : ""}`, title }, seen));
  return h("a", { class: "tile", href: unit.layer.link(unit.unit), "aria-label": `Unit ${unit.unit} of ${unit.layer.name}` }, h("span", { class: "four" }, fewImages(unit, TILED)), words);
}

const allUnits = {
  layers: [],
  sought: [], // what the search asks for

  start({ files, layers }, dissected) {
    this.layers = layers.map((data, order) => new UnitLayer(data, files, order, dissected.find((one) => one.name === data.name) ?? null));
    this.units = this.layers.flatMap((layer) => layer.units);
    document.documentElement.classList.add("js");
    this.found = h("div", { class: "found-images", hidden: true });
    this.list = this.rows();
    this.list.then = () => this.foundImages();
    this.foundImages();
    document.querySelector(".units-explorer").append(this.list.node);
    panel.routes.unit = (parts) => this.open(this.find(parts.slice(0, -1).join(":"), Number(parts.at(-1))));
    panel.routes.image = (parts) => imagePage(parts.join(":"));
    panel.routes.units = () => null;
    addEventListener("keydown", (event) => {
      if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || panel.node.open || event.target.matches("input:not([type=checkbox])")) return;
      event.preventDefault();
      this.list.focusSearch();
    });
  },

  find(name, unit) {
    return this.layers.find((layer) => layer.name === name)?.unitOf.get(unit) ?? null;
  },

  open(unit) {
    return unit && unitPage(unit, this.list);
  },

  has(test) {
    return this.units.some(test);
  },

  rows() {
    const labelled = this.has((u) => u.found), measured = this.has((u) => u.row !== null), classes = this.has((u) => u.class), withP = this.has((u) => typeof u.found?.p === "number");
    const named = this.has((u) => u.names.some((name) => name.source !== "label maps")), examined = this.has(examOf), ablated = this.has(worstOf);
    const pictured = this.layers.filter((layer) => layer.units.some((u) => fewImages(u, 1).length));
    const crowded = named || examined || ablated; // then some columns are orders alone
    const several = this.layers.length > 1, link = (u) => [h("a", { class: "number", href: u.layer.link(u.unit), "aria-label": `Unit ${u.unit} of ${u.layer.name}` }, u.unit), several ? h("span", { class: "small name" }, ` ${u.layer.name}`) : null];
    // by layers, as the workspace names them, and in each the highest peak first
    const first = (u) => u.layer.order * 1e9 - (u.peak ?? u.found?.iou ?? -1);
    const columns = [
      { key: "unit", title: "Unit", order: "by number", sort: (u) => u.layer.order * 1e7 + u.unit, first: 1, cell: (u) => [link(u), isDead(u) || u.found?.dead ? h("span", { class: "mark" }, u.found?.dead || "dead") : null] },
      { key: "label", title: "Concept", order: "by concept", sort: (u) => u.found?.label ?? "", first: 1, cell: (u) => (u.found ? h("span", { class: u.found.detector ? "" : "weak" }, u.layer.dissected.named(u.found.label, u.found.concept, "label")) : "–"), use: labelled },
      { key: "category", title: "Category", order: "by category of concept", sort: (u) => (u.found ? u.layer.dissected.categories[u.found.category] ?? "" : ""), first: 1, cell: (u) => (u.found ? u.layer.dissected.kind(u.found.category) : "–"), only: crowded, use: labelled },
      { key: "iou", title: "IoU", order: "highest IoU first", sort: (u) => u.found?.iou ?? null, first: -1, cell: (u) => (u.found ? u.layer.dissected.gauge(u.found.iou, u.found.category) : "–"), use: labelled },
      { key: "p", title: "p", order: "lowest p first", label: "Share of shuffled units that reach this IoU", sort: (u) => u.found?.p ?? null, first: 1, cell: (u) => pText(u.found?.p ?? null), right: true, use: withP },
      { key: "names", title: "Names", order: "by name", label: "Its best name by class folders or words", sort: (u) => otherName(u)?.text ?? "", first: 1, cell: (u) => h("span", { class: "name label" }, otherName(u)?.text ?? "–", otherName(u) && h("span", { class: "small" }, ` ${fixed(otherName(u).score, 2)}`)), use: named },
      { key: "exam", title: "Exam", order: "best in their exams first", label: "Correlation with what its best name says, on images that chose nothing", sort: (u) => examOf(u)?.examScore ?? null, first: -1, cell: (u) => (examOf(u) ? h("span", { class: examOf(u).passes ? "" : "weak", title: examOf(u).verdict }, `${fixed(examOf(u).examScore, 2)} ${examOf(u).verdict.split(":")[0]}`) : "–"), use: examined },
      { key: "worst", title: "Without it", order: "most hurt when taken out first", label: "The class that it hurts most to lose the unit", sort: (u) => (worstOf(u) ? Math.min(worstOf(u)[1] * 1e6, 0) + worstOf(u)[2] : null), first: 1, cell: (u) => (worstOf(u) ? lossOf(worstOf(u)) : "–"), use: ablated },
      { key: "class", title: "Class", order: "by class", label: "Most frequent class among its highest peaks; grey: no more frequent than by chance", sort: (u) => classOf(u) ?? "", first: 1, cell: (u) => h("span", { class: `name label${classOf(u) ? "" : " weak"}` }, u.class ?? "–", u.class && h("span", { class: "small" }, ` ${share(u.share)}`)), use: classes },
      { key: "selectivity", title: "Selective", order: "most selective first", label: "Class selectivity", sort: (u) => u.selectivity, first: -1, cell: (u) => fixed(u.selectivity, 2), right: true, only: crowded, use: classes },
      { key: "peak", title: "Peak", order: "highest peak first", sort: (u) => u.peak, first: -1, cell: (u) => short(u.peak), right: true, use: measured },
      { key: "density", title: "Above 0", order: "most often above 0 first", label: "Share of its values above 0", sort: (u) => u.density, first: -1, cell: (u) => share(u.density), right: true, only: crowded, use: measured },
      { key: "first", order: several ? "layer by layer" : null, sort: first, first: 1, only: true, use: several },
      { key: "strip", title: "Images that excite it most", sort: null, cell: (u) => h("div", { class: "row" }, fewImages(u, 6)) },
    ].filter(({ use }) => use !== false);
    const wide = { unit: several ? "minmax(6rem, 8rem)" : "3.6rem", label: "minmax(6rem, 11rem)", category: "6rem", iou: "7.5rem", p: "4.2rem", names: "minmax(6rem, 10rem)", exam: "5.6rem", worst: "minmax(5.5rem, 8rem)", class: "minmax(5rem, 9rem)", selectivity: "5rem", peak: "4.4rem", density: "4.8rem", strip: "minmax(9rem, 1fr)" };
    return new ManyRows({
      name: "units", label: "Units", word: "unit", columns, rows: this.units, filters: this.filters(labelled, withP, examined, ablated), tile: pictured.length ? tileOf : null, looked: pictured.length === this.layers.length ? "Tiles" : "Table", above: this.found,
      template: columns.filter(({ only }) => !only).map(({ key }) => wide[key]).join(" "), height: "76px", sorted: several ? "first" : measured ? "peak" : labelled ? "iou" : "unit", open: (u) => go(u.layer.link(u.unit)),
    });
  },

  filters(labelled, withP, examined, ablated) {
    const kinds = [...new Set(this.units.flatMap((u) => (u.found ? [u.layer.dissected.categories[u.found.category]] : [])))].filter(Boolean);
    const of = (u) => u.found && u.layer.dissected.categories[u.found.category];
    return [
      this.search(),
      this.layers.length > 1 ? choice("Layer", "all layers", this.layers.map((layer) => [layer.name, (u) => u.layer === layer])) : null,
      kinds.length ? choice("Category", "all categories", kinds.map((kind) => [kind, (u) => of(u) === kind])) : null,
      labelled ? tick("detectors only", (u) => u.found?.detector) : null,
      examined ? tick("passes an exam", (u) => u.names.some((name) => name.passes)) : null,
      ablated ? tick("a class loses accuracy", (u) => worstOf(u)?.[1] < 0) : null,
      withP ? choice("p-value", "any p", [0.05, 0.01].map((limit) => [`p < ${limit}`, (u) => typeof u.found?.p === "number" && u.found.p < limit])) : null,
      this.has((u) => u.dead) ? hides("dead too", (u) => !u.dead || this.asksFor(u)) : null,
    ].filter(Boolean);
  },

  // By number, address, layer, concept, class, or a top image's name: every word has to fit.
  search() {
    const box = searchBox("Unit, concept, class or image", () => []), input = box.node.querySelector("input");
    return {
      node: box.node,
      test: () => {
        this.sought = soughtIn(input.value);
        const tests = this.sought.map((word) => this.fits(word));
        return tests.length ? (u) => tests.every((test) => test(u)) : null;
      },
    };
  },

  // Whether the search names this very unit.
  asksFor(unit) {
    return this.sought.some((word) => word.number === unit.unit || namesUnit(unit.layer.name, unit.unit, word));
  },

  // Whether a word fits a unit.
  fits(word) {
    if (word.number !== null) return (u) => u.unit === word.number;
    const hits = new Map(this.layers.map((layer) => [layer, layer.lower.map((name) => name.includes(word.text))]));
    const named = new Set(this.layers.filter((layer) => namesLayer(layer.name, word)));
    const says = (text) => text && text.toLowerCase().includes(word.text);
    return (u) => named.has(u.layer) || says(u.found?.label) || u.names.some((name) => says(name.text)) || says(classOf(u)) || namesUnit(u.layer.name, u.unit, word) || u.top.some((image, at) => at % 2 === 0 && hits.get(u.layer)[image]);
  },

  // Images whose names fit the search, each to be opened.
  foundImages() {
    const names = new Map();
    for (const layer of this.sought.some((word) => word.number !== null) ? [] : this.layers) {
      const words = this.sought.filter((word) => !namesLayer(layer.name, word));
      if (words.length) layer.lower.forEach((name, image) => {
        const full = layer.sight.images[image];
        if (names.size < 24 && words.every((word) => name.includes(word.text)) && !names.has(full)) names.set(full, [layer, image]);
      });
    }
    const cells = [...names].map(([name, [layer, image]]) => h("a", { href: panel.link("image", name), title: name }, imageOf(layer, image)));
    this.found.replaceChildren(h("p", { class: "small" }, "Images: the units that fire most on one"), h("div", { class: "row" }, cells));
    this.found.hidden = !cells.length;
  },
};

// A tick that lets in what is hidden without it.
function hides(label, shown) {
  const input = h("input", { type: "checkbox" });
  return { node: h("label", {}, input, label), test: () => (input.checked ? null : shown) };
}

// A whole image, small.
function imageOf(layer, image) {
  const cell = layer.sight.see(image, 0);
  cell.setAttribute("viewBox", layer.sight.box(0, false));
  return cell;
}

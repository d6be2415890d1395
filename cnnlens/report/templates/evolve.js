// Units at one checkpoint of a training, chosen with a slider; below it the columns of all.
class Evolving {
  constructor(layer, box) {
    Object.assign(this, layer);
    this.columns = [...box.nextElementSibling.querySelectorAll("figure")];
    const last = this.moments.length - 1;
    this.slider = h("input", { type: "range", min: 0, max: last, value: last, step: 1, "aria-label": "Checkpoint", oninput: () => this.show(Number(this.slider.value)) });
    this.words = h("output", { class: "name" });
    this.cards = this.units.map((unit, row) => this.card(unit, row));
    box.append(h("div", { class: "controls" }, last > 0 && h("label", {}, "Checkpoint ", this.slider) || null, this.words), h("div", { class: "cards" }, this.cards.map((card) => card.node)));
    this.columns.forEach((column, at) => column.addEventListener("click", () => this.show(at)));
    this.show(last);
  }

  card(unit, row) {
    const pair = h("div", { class: "pair-of", role: "img" }), words = h("span", { class: "small" });
    const line = svg("polyline", { points: this.line(row) }), dot = svg("circle", { r: 2.5 });
    const curve = svg("svg", { viewBox: "-3 -3 106 36", class: "course", "aria-hidden": "true" }, svg("line", { x1: 0, x2: 100, y1: 30, y2: 30 }), line, dot);
    const name = h("b", {}, `unit ${unit}`), opens = panel.routes.unit && allUnits.find(this.layer, unit);
    const node = h("figure", {}, pair, h("figcaption", {}, opens ? h("a", { href: panel.link("unit", this.layer, unit) }, name) : name, h("br"), words, curve));
    return { node, pair, words, dot, row };
  }

  x(at) {
    return (100 * at) / Math.max(1, this.moments.length - 1);
  }

  // Correlation with the last checkpoint over all of them, from 0 (or below: 0) to 1.
  y(at, row) {
    const r = this.moments[at].units[row].correlation_with_last;
    return r === null ? null : 30 - 30 * Math.max(0, r);
  }

  line(row) {
    return this.moments.map((_, at) => [this.x(at), this.y(at, row)]).filter(([, y]) => y !== null).map((point) => point.join(",")).join(" ");
  }

  show(at) {
    const moment = this.moments[at];
    this.slider.value = at;
    this.slider.setAttribute("aria-valuetext", moment.called);
    this.words.textContent = `${moment.called === moment.file ? "" : `${moment.called} · `}${moment.file} · ${moment.dead} of ${plural(this.of, "unit")} dead`;
    this.columns.forEach((column, other) => column.classList.toggle("chosen", other === at));
    for (const card of this.cards) this.fill(card, moment, at);
  }

  fill({ node, pair, words, dot, row }, moment, at) {
    const { peak, top_image: image, jumped, correlation_with_last: r, label, iou, is_detector: detects } = moment.units[row];
    const { count } = this;
    pair.style.backgroundImage = `url("${pictures.src(moment.picture)}")`;
    pair.style.backgroundSize = `100% ${count * 100}%`;
    pair.style.backgroundPosition = `0 ${count > 1 ? (100 * row) / (count - 1) : 0}%`;
    pair.setAttribute("aria-label", image === null ? "dead" : `The patch of ${image}, and what of it drove the unit`);
    node.classList.toggle("dead", image === null);
    node.classList.toggle("jumped", jumped);
    const detected = label ? `${detects ? "" : "at best "}${label} (IoU ${short(iou)})` : null;
    const said = image === null ? ["dead"] : [`peak ${short(peak)}`, r === null ? "r not defined" : `r ${fixed(r, 2)}`, jumped ? "jumped" : null, detected, image];
    words.replaceChildren(said.filter(Boolean).join(" · "));
    const y = this.y(at, row);
    dot.setAttribute("visibility", y === null ? "hidden" : "visible");
    dot.setAttribute("cx", this.x(at));
    dot.setAttribute("cy", y ?? 30);
  }
}

function startEvolution({ layers }) {
  document.documentElement.classList.add("js-evolution");
  for (const box of document.querySelectorAll(".evolving")) new Evolving(layers[box.dataset.layer], box);
}

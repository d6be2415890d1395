// The page of a unit, and that of an image.
function fact(term, ...value) {
  return h("span", {}, term && h("span", {}, term), ...value);
}

function unitPage(unit, rows) {
  const list = rows.shown.includes(unit) ? rows.shown : unit.layer.units, known = unit.layer.opened(unit);
  const made = madeOf(unit, true), near = known && nearUnits(unit, known);
  const blocks = [
    unitFacts(unit, known),
    h("div", { class: "first" }, h("div", {}, highest(unit, known)), h("div", { class: "beside-images" }, made, known && classesOf(unit, known), allValues(unit, known), made.length ? null : near)),
    known && wholeRange(unit, known),
    known && unit.found ? dissectedImages(unit, "Where it is above its threshold, on labelled images", "small-cells") : null,
    measures(unit),
    made.length ? near : null,
    madeOf(unit, false),
  ];
  return {
    where: h("span", { class: "name" }, unit.layer.name),
    title: `Unit ${unit.unit}`,
    tools: copies(unit, known),
    content: blocks.flat(Infinity).filter(Boolean),
    list,
    index: list.indexOf(unit),
    hash: (other) => other.layer.link(other.unit),
    back: "#units",
    reveal: () => rows.reveal(unit),
  };
}

function unitFacts(unit, known) {
  const { found } = unit, { dissected } = unit.layer, strong = (text) => h("b", {}, text);
  const label = found && h("p", { class: "sub" },
    fact("", found.category === null ? null : dissected.swatch(found.category), strong(dissected.named(found.label, found.concept)), found.category === null ? null : h("span", { class: "name" }, dissected.categories[found.category])),
    fact("IoU", strong(fixed(found.iou, 4))),
    runnerUp(dissected, found),
    dissected.chance === null ? null : fact("by chance", fixed(dissected.chance, 4)),
    dissected.hasP ? fact(h("i", {}, "p"), strong(pText(found.p))) : null,
    fact("", found.detector ? "detector" : "not a detector"),
    found.dead ? fact("", strong(found.dead)) : null);
  const dead = found?.dead ? h("p", { class: "small" }, asleep(dissected, found)) : null;
  const more = (unit.layer.facts[unit.unit] ?? []).map(([term, text]) => h("p", { class: "sub" }, fact(term, h("span", { class: "name" }, text))));
  const names = namesOf(unit);
  if (unit.row === null) return [label, dead, names, more];
  if (unit.dead) return [label, h("p", { class: "sub" }, fact("", strong("dead")), fact("", `never above 0 on ${plural(unit.layer.measured, "image")}`)), more];
  return [label, dead, h("p", { class: "sub" },
    unit.class === null ? null : fact("", strong(h("span", { class: "name" }, unit.class)), ` in ${share(unit.share)} of its highest peaks`, unit.chance === null || unit.chance === undefined ? "" : `, ${share(unit.chance)} of all images${unit.telling ? "" : ": no more than by chance"}`),
    fact("highest peak", strong(short(unit.peak))),
    fact("above 0", strong(share(unit.density))),
    fact("mean", short(unit.mean)),
    unit.selectivity === null ? null : fact("class selectivity", fixed(unit.selectivity, 2)),
    unit.entropy === null || unit.entropy === undefined ? null : fact("entropy of classes", `${fixed(unit.entropy, 2)} bits`),
    fact("on", `${plural(unit.layer.measured, "image")}${unit.layer.data ? " of " : ""}`, h("span", { class: "name" }, unit.layer.data))), names, more];
}

// Its names side by side, each with its score and what came out of its exam.
function namesOf(unit) {
  const { names } = unit;
  if (!names.some((name) => name.source !== "label maps" || name.verdict)) return null;
  const examined = names.some((name) => name.verdict), number = (value) => fixed(value, 2).replace(/^-(0\.00)$/, "$1");
  const heads = ["Name", "from", "Score", "by chance", h("i", {}, "p"), ...(examined ? ["Exam", "Correlation", "by chance", h("i", {}, "p")] : [])];
  const row = (name) => [
    h("th", { scope: "row", class: "name" }, name.text), name.source, name.score === null ? "–" : `${name.measure} ${number(name.score)}`, number(name.chance), pText(name.p),
    ...(examined ? [h("span", { class: name.passes ? "" : "weak" }, name.verdict || "not examined"), number(name.examScore), number(name.examChance), pText(name.examP)] : []),
  ].map((cell) => (cell.tagName === "TH" ? cell : h("td", {}, cell)));
  return h("div", { class: "scroll" }, h("table", { class: "kinds" }, h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))), h("tbody", {}, names.map((name) => h("tr", {}, row(name))))));
}

function runnerUp(layer, found) {
  const second = found.near.find(([index]) => index !== found.concept);
  return second ? fact("runner-up", layer.named(layer.concepts[second[0]].label, second[0]), fixed(second[1], 4)) : null;
}

function asleep(layer, unit) {
  if (unit.dead === "dead") return "It gives one and the same value everywhere on the labelled images.";
  return `Its threshold is 0: at most ${layer.quantile === null ? "a few" : Number((100 * layer.quantile).toPrecision(3)) + " %"} of its activations on the labelled images are above 0.`;
}

// -- images ------------------------------------------------------------------------------------------

function caption(name, ...more) {
  return h("div", { class: "caption" }, h("span", { class: "file name", title: name }, name.split("/").pop()), more);
}

function imageCell(sight, image, place, options, ...more) {
  const name = sight.images[image], cell = sight.see(image, place, { switched: true, ...options });
  const opens = allUnits.layers.some((layer) => layer.sight?.images.includes(name));
  return h("li", {}, opens ? h("a", { href: panel.link("image", name), title: name }, cell) : cell, more.length ? caption(name, ...more) : null);
}

function highest(unit, known) {
  if (!known) return dissectedImages(unit);
  const { sight } = unit.layer;
  const cells = pairs(unit.top).map(([image, place], rank) => imageCell(sight, image, place, { map: known.maps[rank] }, `peak ${short(known.peaks[rank])}`));
  return [h("div", { class: "over" }, h("h3", {}, "Highest peaks"), switches(sight, "Where the unit is above half of its peak")), h("ol", { class: "cells nine" }, cells)];
}

function switches(sight, masked) {
  const redraw = () => panel.node.querySelectorAll("svg.see").forEach((one) => one.look?.());
  const flip = (on, title, text) => h("button", { type: "button", title, "aria-pressed": String(looking.crop === on), onclick: (event) => {
    looking.crop = on;
    for (const one of event.target.parentNode.children) one.setAttribute("aria-pressed", one === event.target);
    redraw();
  } }, text);
  const crop = h("span", { class: "choice" }, flip(true, "What the unit sees at its peak (c)", "Receptive field"), flip(false, "The whole image (c)", "Whole image"));
  const masks = h("label", { title: `${masked} (m)` }, h("input", { type: "checkbox", checked: looking.masks, oninput: (event) => { looking.masks = event.target.checked; redraw(); } }), "masks");
  return h("div", { class: "switches" }, sight.whole ? h("span", { class: "small" }, "sees the whole image") : crop, sight.map && sight.map[0] * sight.map[1] > 1 ? masks : null);
}

// Where nothing but the dissection is known: its strip, cut into cells.
function dissectedImages(unit, title = "Images that excite it most", size = "nine") {
  const { found } = unit, { images } = unit.layer.dissected ?? {};
  if (!found || (!found.picture && !found.top.length)) return null;
  if (unit.layer.dissected.sight) return labelledImages(unit, title, size);
  const src = pictures.src(found.picture), list = h("ol", { class: `cells ${size}` });
  const put = (count) => list.replaceChildren(...Array.from({ length: Math.max(count, found.top.length) }, (_, index) => {
    const [image, peak] = found.top[index] ?? [null, null], name = image === null ? `Image ${index + 1}` : images[image];
    const cell = src && index < count ? cellOf(src, index, count) : null;
    cell?.setAttribute("role", "img");
    cell?.setAttribute("aria-label", name);
    return h("li", {}, cell, h("div", { class: "caption" }, image === null ? null : h("span", { class: "file name", title: name }, name.split("/").pop()), peak === null ? null : `peak ${short(peak)}`));
  }));
  put(0);
  if (src) {
    const probe = new Image();
    probe.onload = () => put(Math.max(1, Math.round(probe.naturalWidth / probe.naturalHeight)));
    probe.src = src;
  }
  return [h("h3", {}, title), list];
}

// Labelled images with the mask that is held against the labels.
function labelledImages({ layer, found }, title, size) {
  const { sight } = layer.dissected;
  const cells = found.top.map(([image, peak, place], rank) => imageCell(sight, image, place, { map: found.maps[rank], level: found.threshold / peak }, `peak ${short(peak)}`));
  return [h("div", { class: "over" }, h("h3", {}, title), size === "nine" ? switches(sight, "Where the unit is above its threshold") : null), h("ol", { class: `cells ${size}` }, cells)];
}

function wholeRange(unit, { examples, counts, range, bottom }) {
  const total = counts.reduce((a, b) => a + b, 0) || 1, step = (range[1] - range[0]) / counts.length;
  const bins = examples.map((flat, bin) => ({ flat, bin, to: range[0] + (bin + 1) * step, from: range[0] + bin * step, count: counts[bin] })).reverse();
  const most = Math.max(...counts, 1), bar = (count) => h("span", { class: "track", vars: { "--v": count / most, "--c": "var(--accent)" } }, h("i", { class: "fill" }));
  // where a unit is 0 everywhere, it has no place: the whole image is shown
  const nowhere = (bin, place) => bin === 0 && place === 0 && range[0] <= 0;
  const rows = bins.map(({ flat, bin, from, to, count }) => h("div", { class: "bin" },
    h("div", { class: "of" }, h("b", {}, share(count / total)), bar(count), h("span", { class: "small" }, `${short(from)} to ${short(to)}`)),
    h("ol", { class: "cells" }, pairs(flat).map(([image, place]) => imageCell(unit.layer.sight, image, place, { whole: nowhere(bin, place) })))));
  const lowest = pairs(bottom).map(([image, place]) => imageCell(unit.layer.sight, image, place, { whole: nowhere(0, place) }));
  return h("div", { class: "range" }, h("h3", {}, "Over its whole range"),
    h("p", { class: "small" }, "The share of images whose highest value lies in each part of the range, and some of them drawn at random."),
    h("div", { class: "bins", vars: { "--half": Math.ceil(rows.length / 2) } }, rows),
    lowest.length ? [h("h3", {}, "Lowest peaks"), h("ol", { class: "cells small-cells" }, lowest)] : null);
}

// -- numbers -----------------------------------------------------------------------------------------

function allValues(unit, known) {
  const spread = known?.spread ?? unit.found?.histogram ?? null, threshold = unit.found?.threshold ?? null;
  if (!spread && threshold === null) return null;
  const where = spread && threshold !== null && known ? h("p", { class: "small" }, "Its threshold comes from the labelled images.") : null;
  return h("div", {}, h("h3", {}, "All its values, log counts"), spread ? histogram(spread, threshold) : h("p", {}, `threshold ${threshold}`), where);
}

// What its highest peaks are on: the first classes, and how many others.
function classesOf(unit, { makeup }) {
  const classes = pairs(makeup), total = classes.reduce((sum, [, count]) => sum + count, 0), shown = classes.slice(0, 6), rest = classes.length - shown.length;
  if (!total) return null;
  const rows = shown.map(([kind, count]) => h("li", {}, h("span", { class: "what" }, h("span", { class: "name" }, unit.layer.classes[kind])),
    h("span", { class: "track", vars: { "--v": count / shown[0][1], "--c": "var(--accent)" } }, h("i", { class: "fill" })), h("span", { class: "value" }, share(count / total))));
  return h("div", {}, h("h3", {}, `Classes of its ${total} highest peaks`), h("ol", { class: "ranks" }, rows), rest ? h("p", { class: "small" }, `and ${plural(rest, "other")}`) : null);
}

function measures(unit) {
  const { found } = unit, layer = unit.layer.dissected;
  const ranks = found?.near.length ? h("div", {}, h("h3", {}, "Its best concepts"), nearest(layer, found), layer.minIou === null ? null : h("p", { class: "small" }, `The line marks IoU ${layer.minIou}, from where a unit is a detector.`)) : null;
  const kinds = found?.best.length ? h("div", {}, h("h3", {}, "Best in each category"), bestByCategory(layer, found)) : null;
  return ranks || kinds ? h("div", { class: "pair" }, ranks, kinds) : null;
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

function nearUnits(unit, { near }) {
  if (!near.length) return null;
  const tiles = near.map(([name, number, r]) => {
    const other = allUnits.find(name, number);
    return other ? tileOf(other, h("span", {}, `r ${fixed(r, 2)}`)) : h("span", { class: "tile name" }, `${name}:${number}, r ${fixed(r, 2)}`);
  });
  return h("div", {}, h("h3", {}, "Units that respond alike"), h("div", { class: "near-tiles" }, tiles));
}

// Pictures that other methods made of this unit; the optimized one stands first.
function madeOf(unit, first) {
  const mine = atUnit.filter((one) => one.layer === unit.layer.name && one.unit === unit.unit);
  const chosen = first ? mine.filter((one) => one.method === "visualize") : mine.filter((one) => one.method !== "visualize" || one.small !== one.picture);
  return chosen.map(({ method, title, caption, picture: large, small, apart }) => [!first && method === "visualize" ? "Beside real images" : title, caption, first ? small : large, first ? [] : apart]).map(([title, caption, picture, apart]) =>
    h("div", { class: "extra" }, h("h3", {}, title), apart.length ? apartOf(pictures.src(picture), apart) : h("img", { src: pictures.src(picture), alt: `${title}, unit ${unit.unit}` }), h("p", { class: "small" }, caption)));
}

// -- what can be copied ------------------------------------------------------------------------------

function plainOf(unit, known) {
  const { found } = unit, layer = unit.layer, images = layer.sight?.images;
  const label = found && { label: found.label, category: layer.dissected.categories[found.category] ?? null, iou: found.iou, chance: layer.dissected.chance, p_value: found.p, is_detector: found.detector, threshold: found.threshold };
  const row = { layer: layer.name, unit: unit.unit, ...label };
  if (unit.row !== null) Object.assign(row, { data: layer.data, images: layer.measured, dead: Boolean(unit.dead), peak_max: unit.peak, density: unit.density, mean: unit.mean, category: unit.class ?? row.category ?? null, category_share: unit.share, category_entropy: unit.entropy, class_selectivity: unit.selectivity });
  const at = (place) => [Math.floor(place / layer.sight.wide), place % layer.sight.wide];
  const lists = known && {
    top: pairs(unit.top).map(([image, place], rank) => ({ image: images[image], peak: known.peaks[rank], place: at(place) })),
    bins: known.counts.map((count, bin) => ({ to: known.range[0] + ((bin + 1) * (known.range[1] - known.range[0])) / known.counts.length, images: count })),
    classes: Object.fromEntries(pairs(known.makeup).map(([kind, count]) => [layer.classes[kind], count])),
    neighbours: known.near.map(([name, number, r]) => ({ layer: name, unit: number, correlation: r })),
  };
  return [row, lists];
}

function csvOf(row) {
  const cell = (value) => (value === null || value === undefined ? "" : /[",\n]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
  return `${Object.keys(row).join(",")}\n${Object.values(row).map(cell).join(",")}\n`;
}

function copies(unit, known) {
  const [row, lists] = plainOf(unit, known);
  const copy = (title, text) => h("button", { type: "button", class: "copy", title: `Copy ${title}`, onclick: (event) => copyText(text(), event.target) }, title);
  return [h("span", { class: "tool small" }, "copy"), copy("link", () => location.href), copy("CSV", () => csvOf(row)), copy("JSON", () => JSON.stringify({ ...row, ...lists }, null, 2))];
}

// -- an image ----------------------------------------------------------------------------------------

function imagePage(name) {
  const layers = allUnits.layers.map((layer) => [layer, layer.sight ? layer.sight.images.indexOf(name) : -1]).filter(([, image]) => image >= 0);
  if (!layers.length) return null;
  const [[first, image]] = layers, list = first.sight.images, picture = imageOf(first, image);
  const frame = svg("rect", { class: "frame", "vector-effect": "non-scaling-stroke" });
  picture.append(frame);
  const groups = layers.map(([layer, index]) => strongestUnits(layer, index, frame));
  return {
    where: h("span", { class: "name" }, first.data),
    title: byParts(name.split("/").pop()),
    tools: [h("span", { class: "tool small" }, "copy"), h("button", { type: "button", class: "copy", title: "Copy link", onclick: (event) => copyText(location.href, event.target) }, "link")],
    content: h("div", { class: "first image-page" }, h("div", { class: "large" }, picture, name.includes("/") ? h("p", { class: "small name" }, name) : null), h("div", {}, groups)),
    list,
    index: image,
    hash: (other) => panel.link("image", other),
    back: "#units",
    reveal: () => allUnits.list.focusSearch(),
  };
}

// Units that come nearest to their highest peaks on an image; pointing at one frames what it sees.
function strongestUnits(layer, image, frame) {
  const { sight } = layer, flat = layer.strongest[image], tiles = [];
  for (let at = 0; at < flat.length; at += 3) {
    const [number, place, peak] = flat.slice(at, at + 3), unit = layer.unitOf.get(number);
    if (!unit) continue;
    const point = () => {
      const [[top, bottom], [left, right]] = sight.whole ? [[0, 0], [0, 0]] : sight.field(place);
      for (const [key, value] of Object.entries({ x: left, y: top, width: right - left, height: bottom - top })) frame.setAttribute(key, value);
    };
    const words = h("span", { class: "caption" }, h("b", {}, number), unit.found?.detector || classOf(unit) ? h("span", { class: "name" }, wordsOf(unit)) : null, h("span", { title: "of its highest peak on all images" }, `${share(peak / unit.peak)} of its peak`));
    tiles.push(h("a", { class: "tile", href: layer.link(number), onpointerenter: point, onfocus: point }, sight.see(image, place), words));
  }
  const none = tiles.length ? null : h("p", { class: "small" }, "No unit is above 0 here, or it was measured without pictures.");
  return h("div", {}, h("h3", {}, "Units that fire most on it, ", h("span", { class: "name" }, layer.name)), none, h("div", { class: "near-tiles" }, tiles));
}

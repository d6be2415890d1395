// What a site's pages do beyond reading: search and order, keys, switches, links to copy.
document.documentElement.classList.add("js");

const root = document.body.dataset.root;

// What is remembered from page to page; a browser may refuse it to pages from a disk.
const memory = {
  read(key) {
    try { return localStorage.getItem(`cnnlens-${key}`); } catch { return null; }
  },
  keep(key, value) {
    try { localStorage.setItem(`cnnlens-${key}`, value); } catch { /* then it holds for this page alone */ }
  },
};

// -- finding units -----------------------------------------------------------------------------------

const TURN = 90; // tiles put into the page at once; more come as the reader scrolls

class Finder {
  constructor(box) {
    this.box = box;
    this.only = box.dataset.layer ?? null;
    this.units = SITE.layers.flatMap((layer, place) => layer.unit.map((unit, at) => ({ unit, at, layer, place })));
    this.orders = [
      ["the telling ones first", (u) => u.layer.rank[u.at]],
      ["highest peak first", (u) => -u.layer.peak[u.at]],
      ["most often above 0 first", (u) => -u.layer.density[u.at]],
      ["most seldom above 0 first", (u) => u.layer.density[u.at] ?? Infinity],
      ["most selective first", (u) => -(u.layer.selectivity[u.at] ?? -1)],
      ["by name", (u) => SITE.words[u.layer.what[u.at]].toLowerCase() || "\uffff"],
      ["by number", (u) => u.unit],
    ].filter(([title]) => this.has(title));
    this.make();
    this.read();
  }

  has(title) {
    if (/selective/.test(title)) return SITE.layers.some((layer) => layer.selectivity.some((value) => value !== null));
    if (/name/.test(title)) return SITE.layers.some((layer) => layer.what.some(Boolean));
    if (/peak|above/.test(title)) return SITE.layers.some((layer) => layer.peak.some((value) => value !== null));
    return true;
  }

  make() {
    const many = SITE.layers.length > 1;
    this.search = h("input", { type: "search", placeholder: "Unit, label, class or image", "aria-label": "Search", spellcheck: "false" });
    this.where = h("select", { "aria-label": "Layer" }, many ? h("option", { value: "" }, "all layers") : null, SITE.layers.map((layer) => h("option", { value: layer.name }, layer.name)));
    this.where.value = this.only ?? (many ? "" : SITE.layers[0].name);
    this.order = h("select", { "aria-label": "Order" }, this.orders.map(([title], index) => h("option", { value: index }, title)));
    this.dead = h("input", { type: "checkbox" });
    this.count = h("output", { "aria-live": "polite" });
    this.tiles = h("div", { class: "tiles" });
    this.end = h("div");
    const anyDead = SITE.layers.some((layer) => layer.dead.some(Boolean));
    this.box.append(
      h("div", { class: "controls", role: "search" }, h("label", {}, this.search, h("kbd", {}, "/")), many && this.only === null ? this.where : null, this.order, anyDead ? h("label", {}, this.dead, "dead too") : null, this.count),
      this.tiles, this.end);
    for (const node of [this.search, this.where, this.order, this.dead]) node.addEventListener("input", () => this.update(true));
    addEventListener("hashchange", () => this.read());
    new IntersectionObserver((seen) => seen.some((one) => one.isIntersecting) && this.put(), { rootMargin: "900px" }).observe(this.end);
    this.search.addEventListener("keydown", (event) => event.key === "Enter" && this.tiles.firstElementChild?.click());
  }

  // The search stands in the address, so that it can be linked to and gone back to.
  read() {
    const said = new URLSearchParams(location.hash.slice(1));
    if (said.has("find") && this.search.value !== said.get("find")) this.search.value = said.get("find");
    if (this.only === null && said.has("layer") && SITE.layers.some((layer) => layer.name === said.get("layer"))) this.where.value = said.get("layer");
    const order = this.orders.findIndex(([title]) => title === said.get("order"));
    if (order >= 0) this.order.value = order;
    if (said.has("dead")) this.dead.checked = true;
    if (location.hash === "#search") this.search.focus();
    this.update(false);
  }

  asked() {
    const said = new URLSearchParams();
    if (this.search.value) said.set("find", this.search.value);
    if (this.only === null && this.where.value && SITE.layers.length > 1) said.set("layer", this.where.value);
    if (Number(this.order.value)) said.set("order", this.orders[this.order.value][0]);
    if (this.dead.checked) said.set("dead", "1");
    return said.toString();
  }

  update(byReader) {
    const asked = this.asked();
    if (byReader) history.replaceState(null, "", asked ? `#${asked}` : location.pathname + location.search);
    const found = asked || this.only !== null ? this.found() : null;
    document.querySelector(".still-units").hidden = found !== null;
    this.shown = found ?? [];
    this.put.from = 0;
    this.tiles.replaceChildren();
    this.count.textContent = found === null ? "" : `${found.length.toLocaleString("en")} ${found.length === 1 ? "unit" : "units"}`;
    if (found?.length === 0) this.tiles.append(h("p", { class: "empty" }, "No unit fits."));
    this.put();
  }

  found() {
    const sought = soughtIn(this.search.value).map((word) => this.fits(word)), layer = this.only ?? this.where.value, dead = this.dead.checked;
    const found = this.units.filter((u) => {
      if (layer && u.layer.name !== layer) return false;
      if (u.layer.dead[u.at] && !dead && !sought.some((word) => word.isOf(u))) return false;
      return sought.every((word) => word.isOf(u) || word.says(u));
    });
    const value = this.orders[this.order.value][1];
    const keys = new Map(found.map((u) => [u, value(u)]));
    const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
    return found.sort((a, b) => compare(keys.get(a), keys.get(b)) || a.place - b.place || a.unit - b.unit);
  }

  // Whether a word is a unit's number or address, and whether anything said of the unit holds it.
  fits(word) {
    const isOf = (u) => (word.number === null ? namesUnit(u.layer.name, u.unit, word) : u.unit === word.number);
    if (word.isUnit) return { isOf, says: () => false };
    const holds = new Set(SITE.words.flatMap((said, index) => (said.toLowerCase().includes(word.text) ? [index] : [])));
    const named = new Set(SITE.layers.filter((layer) => namesLayer(layer.name, word)));
    return { isOf, says: ({ layer, at }) => named.has(layer) || ["what", "class", "image"].some((column) => holds.has(layer[column][at])) };
  }

  put() {
    const from = this.tiles.querySelectorAll(".tile").length;
    if (from >= this.shown.length) return;
    this.tiles.append(...this.shown.slice(from, from + TURN).map((u) => this.tile(u)));
    if (this.end.getBoundingClientRect().top < innerHeight + 900) requestAnimationFrame(() => this.put());
  }

  tile({ unit, at, layer }) {
    const place = `${root}${layer.folder}/${unit}`, word = (column) => SITE.words[layer[column][at]];
    const picture = layer.tile[at] ? h("img", { src: `${place}.webp`, alt: "", width: 240, height: 240, loading: "lazy", decoding: "async" }) : h("span", { class: "blank" }, layer.dead[at] ? "dead" : "no picture");
    const over = this.only === null && SITE.layers.length > 1 && !this.where.value ? [" ", h("span", { class: "name" }, layer.name)] : null;
    return h("a", { class: "tile", href: `${place}.html` }, picture, h("span", { class: "caption" }, h("span", {}, h("b", {}, unit), over), h("span", { class: "name" }, word("what")), h("span", { class: "weak" }, word("figure"))));
  }
}

// -- the page of a unit --------------------------------------------------------------------------------

function startSwitches() {
  const whole = document.getElementById("whole"), masks = document.getElementById("masks");
  if (whole && !whole.disabled) {
    const seen = [...document.querySelectorAll(".cells .see")].map((node) => [node, node.getAttribute("viewBox")]);
    const look = () => {
      for (const [node, box] of seen) {
        const image = node.querySelector("image");
        if (image) node.setAttribute("viewBox", whole.checked ? `0 0 ${image.getAttribute("width")} ${image.getAttribute("height")}` : box);
      }
      memory.keep("whole", whole.checked ? "1" : "");
    };
    whole.checked = memory.read("whole") === "1";
    whole.addEventListener("input", look);
    look();
  }
  if (masks) {
    const kept = memory.read("masks");
    if (kept !== null && !whole?.disabled) masks.checked = kept === "1";
    masks.addEventListener("input", () => memory.keep("masks", masks.checked ? "1" : ""));
  }
}

function startTools() {
  const tools = document.querySelector(".tools");
  tools?.prepend(h("button", { type: "button", class: "copy", title: "Copy this page's address", onclick: (event) => copyText(location.href, event.target) }, "copy link"));
}

// Pointing at a unit frames what it sees on the image.
function startFrames() {
  const frame = document.querySelector(".large .frame");
  if (!frame) return;
  const show = ({ currentTarget }) => {
    const [top, left, bottom, right] = (currentTarget.dataset.field ?? "0 0 0 0").split(" ").map(Number);
    for (const [key, value] of Object.entries({ x: left, y: top, width: right - left, height: bottom - top })) frame.setAttribute(key, value);
  };
  for (const tile of document.querySelectorAll(".image-page .tile")) {
    tile.addEventListener("pointerenter", show);
    tile.addEventListener("focus", show);
  }
}

// -- keys ----------------------------------------------------------------------------------------------

const finder = document.querySelector(".finder") && typeof SITE !== "undefined" ? new Finder(document.querySelector(".finder")) : null;
startSwitches();
startTools();
startFrames();

addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.matches("input:not([type=checkbox]), select, textarea")) return;
  const link = { ArrowLeft: "prev", ArrowRight: "next" }[event.key], box = { w: "whole", m: "masks" }[event.key];
  if (link) document.querySelector(`.steps a[rel=${link}]`)?.click();
  else if (box) document.getElementById(box)?.click();
  else if (event.key === "/") {
    if (finder) finder.search.focus();
    else location.href = `${root}index.html#search`;
  } else return;
  event.preventDefault();
});

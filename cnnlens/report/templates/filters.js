// Trees of filters, opened node by node: nothing below a node is built before it is opened.
class FilterTree {
  static SHOWN = 8; // thumbnails beside a node

  constructor(category, layer, wants, { cell, columns, most }) {
    Object.assign(this, category, { layer, wants, cell, columns, most });
    this.count = category.images.length;
    this.leaves = new Map();
  }

  // Leaves below a node, without recursion: a tree may be a chain.
  below(node) {
    if (this.leaves.has(node)) return this.leaves.get(node);
    const found = [], waiting = [node];
    while (waiting.length) {
      const one = waiting.pop();
      if (one < this.count) found.push(one);
      else waiting.push(...this.nodes[one - this.count][4]);
    }
    this.leaves.set(node, found);
    return found;
  }

  thumbnail(leaf) {
    const name = this.images[leaf], vars = { "--side": `${this.cell}px` };
    if (!this.sprite || leaf >= this.most) return h("span", { class: "thumb", title: name, vars });
    const box = h("span", { class: "thumb", title: name, role: "img", "aria-label": name, vars });
    box.style.backgroundImage = `url("${pictures.src(this.sprite)}")`;
    box.style.backgroundPosition = `-${(leaf % this.columns) * this.cell}px -${Math.floor(leaf / this.columns) * this.cell}px`;
    return box;
  }

  words(node) {
    const [distance, filter, filters, detects] = this.nodes[node - this.count];
    const name = filter === null ? "no filter left" : `filter ${filter}`;
    const said = [detects, plural(this.below(node).length, "image"), `distance ${fixed(distance, 3)}`, `${plural(filters, "filter")} left`];
    const wanted = this.wants[filter];
    const picture = wanted && h("img", { class: "wants", src: pictures.src(wanted), alt: `What filter ${filter} wants to see`, title: `What filter ${filter} wants to see`, loading: "lazy" }) || null;
    return [picture, filter === null ? h("b", {}, name) : h("a", { href: panel.link("unit", this.layer, filter), class: "link" }, name), " ", h("span", { class: "small" }, said.filter(Boolean).join(" · "))];
  }

  item(node) {
    if (node < this.count) return h("li", { class: "leaf" }, this.thumbnail(node), h("span", { class: "small name" }, this.images[node]));
    const leaves = this.below(node);
    const row = h("span", { class: "thumbs" }, leaves.slice(0, FilterTree.SHOWN).map((leaf) => this.thumbnail(leaf)), leaves.length > FilterTree.SHOWN && h("span", { class: "small" }, "…") || null);
    const box = h("details", {}, h("summary", {}, h("span", { class: "says" }, this.words(node)), row));
    box.addEventListener("toggle", () => box.open && box.children.length === 1 && box.append(this.list(this.nodes[node - this.count][4])), { passive: true });
    return h("li", {}, box);
  }

  list(nodes) {
    const sorted = [...nodes].sort((a, b) => this.below(b).length - this.below(a).length);
    return h("ul", { class: "branches" }, sorted.slice(0, 200).map((node) => this.item(node)), sorted.length > 200 && h("li", { class: "small" }, `and ${sorted.length - 200} more`) || null);
  }
}

function startFilters({ layers, ...sizes }) {
  for (const box of document.querySelectorAll("details.filter-tree")) {
    const layer = layers[box.dataset.layer];
    const grow = () => {
      const place = box.querySelector(".grows");
      if (!box.open || place.childElementCount) return;
      const tree = new FilterTree(layer.categories[box.dataset.category], layer.layer, layer.wants, sizes);
      place.append(tree.list(tree.roots));
      place.querySelector("details")?.setAttribute("open", "");
    };
    box.addEventListener("toggle", grow);
    grow();
  }
}

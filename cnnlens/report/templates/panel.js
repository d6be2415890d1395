// The panel that a unit or a concept opens in. What is open stands in the address, so that it can
// be linked to: #unit=LAYER:12, #image=NAME, #concept=LAYER:CATEGORY:LABEL, #layer=LAYER.
const panel = {
  node: document.getElementById("panel"),
  routes: {}, // name -> (parts) -> { title, content, tools, list, index, hash(entry), reveal() } or null

  link(name, ...parts) {
    return `#${name}=${parts.map((part) => encodeURIComponent(part)).join(":")}`;
  },

  start() {
    this.node.addEventListener("keydown", (event) => this.key(event));
    this.node.addEventListener("close", () => this.closed());
    this.node.addEventListener("click", (event) => event.target === this.node && this.node.close());
    addEventListener("hashchange", () => this.follow());
    addEventListener("popstate", () => this.follow());
    this.follow();
  },

  follow() {
    if (location.hash === this.at) return;
    this.at = location.hash;
    const [, name, rest] = /^#(\w+)=(.*)$/s.exec(location.hash) ?? [];
    let parts;
    try {
      parts = rest?.split(":").map(decodeURIComponent);
    } catch {
      return; // not one of our links
    }
    const found = this.routes[name]?.(parts);
    if (found?.content) this.show(found);
    else if (this.node.open) this.node.close();
  },

  show(found) {
    this.open = found;
    const { list, index } = found;
    const place = list.length > 1 ? `${whole(index + 1)} of ${whole(list.length)}` : "";
    const step = (by, text, label) => h("button", { type: "button", "aria-label": label, title: label, disabled: !list[index + by], onclick: () => this.step(by) }, text);
    const close = h("button", { type: "button", "aria-label": "Close", title: "Close (Esc)", onclick: () => this.node.close() }, "✕");
    const title = h("h2", { id: "panel-title", tabindex: "-1" }, found.title);
    this.node.replaceChildren(
      h("div", { class: "bar-top" }, h("span", {}, found.where, place && ` · ${place}`), found.tools ?? null, step(-1, "←", "Previous (left arrow)"), step(1, "→", "Next (right arrow)"), close),
      h("div", { class: "inside" }, title, found.content),
    );
    if (!this.node.open) this.node.showModal();
    this.node.scrollTop = 0;
    title.focus({ preventScroll: true });
  },

  step(by) {
    const next = this.open.list[this.open.index + by];
    if (!next) return;
    history.replaceState(null, "", this.open.hash(next));
    this.follow();
  },

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.matches("input:not([type=checkbox]), select")) return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const pressed = { c: ".switches .choice [aria-pressed=false]", m: ".switches input" }[event.key];
    if (by || pressed) event.preventDefault();
    if (by) this.step(by);
    if (pressed) this.node.querySelector(pressed)?.click();
  },

  closed() {
    const left = this.open;
    this.open = null;
    if (!left) return;
    if (/^#(unit|concept|image)=/.test(location.hash)) history.pushState(null, "", left.back);
    this.at = location.hash;
    left.reveal();
  },
};

// A list of any length: only the lines that can be seen are in the page.
class Windowed {
  static BEYOND = 4; // lines kept ready above and below

  // scroller scrolls; body holds the nodes that make(item) makes, across() of them in a line.
  constructor(scroller, body, make, across = () => 1) {
    Object.assign(this, { scroller, body, make, across, items: [], nodes: new Map(), height: 76 });
    scroller.addEventListener("scroll", () => this.later(), { passive: true });
    new ResizeObserver(() => this.later()).observe(scroller);
  }

  show(items) {
    this.items = items;
    this.scroller.scrollTop = 0;
    this.draw();
  }

  later() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.draw());
  }

  // Where the body begins in what scrolls: below a head.
  get head() {
    return this.body.previousElementSibling?.offsetHeight ?? 0;
  }

  draw(again = true) {
    if (!this.scroller.offsetParent) return; // hidden: it is drawn once it has a size
    const across = this.across(), lines = Math.ceil(this.items.length / across), top = this.scroller.scrollTop;
    const from = Math.max(0, Math.floor(top / this.height) - Windowed.BEYOND);
    const to = Math.ceil((top + (this.scroller.clientHeight || innerHeight)) / this.height) + Windowed.BEYOND;
    const wanted = this.items.slice(from * across, to * across);
    const kept = new Map(wanted.map((item) => [item, this.nodes.get(item) ?? this.make(item)]));
    for (const [item, node] of this.nodes) if (!kept.has(item)) node.remove();
    let next = this.body.firstChild;
    for (const node of kept.values()) {
      if (node === next) next = next.nextSibling;
      else this.body.insertBefore(node, next);
    }
    this.nodes = kept;
    this.body.style.paddingTop = `${from * this.height}px`;
    this.body.style.height = `${lines * this.height}px`;
    const first = this.body.firstChild;
    const gap = parseFloat(getComputedStyle(this.body).rowGap) || 0;
    const tall = first && first.offsetHeight + gap;
    if (again && tall && Math.abs(tall - this.height) > 0.5) {
      this.height = tall;
      this.draw(false);
    }
  }

  // Bring an item into view; give its node.
  reveal(item) {
    const index = this.items.indexOf(item);
    if (index < 0) return null;
    const top = Math.floor(index / this.across()) * this.height, view = this.scroller.clientHeight - this.head - this.height;
    if (top < this.scroller.scrollTop || top > this.scroller.scrollTop + view) this.scroller.scrollTop = Math.max(0, top - view / 2);
    this.draw();
    return this.nodes.get(item);
  }
}

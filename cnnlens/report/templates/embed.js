// Layouts of images as points on canvases: pointing shows the image, dragging turns three dimensions.
class Layouts {
  constructor(data, sizes, box) {
    Object.assign(this, data, sizes, { kind: "flat", turn: [0.5, 0.35], chosen: null, under: -1 });
    this.charts = ["Layer " + data.layer, "Raw pixels"].map((title, index) => this.chart(title, index));
    const kinds = h("label", {}, "Dimensions ", h("select", { onchange: (event) => { this.kind = event.target.value; this.draw(); } }, h("option", { value: "flat" }, "2"), h("option", { value: "deep" }, "3: drag to turn")));
    const legend = this.categories.length > 1 && this.categories.length <= 60 && h("div", { class: "legend" }, this.categories.map((name, index) => this.entry(name, index)));
    this.tip = h("div", { class: "layout-tip", hidden: true }, this.picture = h("span", { class: "thumb", vars: { "--side": `${this.side}px` } }), this.words = h("span", { class: "small name" }));
    box.append(h("div", { class: "controls" }, kinds), h("div", { class: "pair" }, this.charts.map((chart) => chart.node)), legend || "", this.tip);
    new ResizeObserver(() => this.draw()).observe(box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  entry(name, index) {
    const button = h("button", { type: "button", class: "name", "aria-pressed": "false", onclick: () => {
      this.chosen = this.chosen === index ? null : index;
      for (const [other, node] of [...button.parentNode.children].entries()) node.setAttribute("aria-pressed", other === this.chosen);
      this.draw();
    } }, h("span", { class: "dot", vars: { "--dot": this.colours[index] } }), name);
    return button;
  }

  chart(title, index) {
    const canvas = h("canvas", { class: "layout", role: "img", "aria-label": `${title}: layout of ${plural(this.images.length, "image")}` });
    const chart = { canvas, index, node: h("figure", { class: "layout-box" }, h("figcaption", {}, title), canvas) };
    canvas.addEventListener("pointermove", (event) => event.buttons && this.kind === "deep" ? this.spin(event) : this.point(chart, event));
    canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener("pointerleave", () => { this.tip.hidden = true; this.under = -1; this.draw(); });
    return chart;
  }

  spin(event) {
    this.turn[0] += event.movementX / 150;
    this.turn[1] = Math.max(-1.5, Math.min(1.5, this.turn[1] + event.movementY / 150));
    this.draw();
  }

  // Where a point stands on a canvas of this side.
  place([x, y, z], side) {
    if (z !== undefined) {
      const [a, b] = this.turn, u = x - 0.5, v = y - 0.5, w = z - 0.5;
      const across = u * Math.cos(a) + v * Math.sin(a), along = v * Math.cos(a) - u * Math.sin(a);
      [x, y] = [0.5 + across * 0.75, 0.5 + (w * Math.cos(b) + along * Math.sin(b)) * 0.75];
    }
    const margin = 8;
    return [margin + x * (side - 2 * margin), margin + (1 - y) * (side - 2 * margin)];
  }

  draw() {
    for (const { canvas, index } of this.charts) {
      const side = canvas.clientWidth, scale = devicePixelRatio || 1, ink = getComputedStyle(canvas).color;
      canvas.width = canvas.height = Math.round(side * scale);
      const pen = canvas.getContext("2d"), radius = this.images.length > 1500 ? 2 : 3;
      pen.scale(scale, scale);
      const points = this[this.kind][index];
      for (let number = 0; number < points.length; number++) {
        const away = this.chosen !== null && this.of[number] !== this.chosen;
        pen.globalAlpha = away ? 0.08 : 0.8;
        pen.fillStyle = this.colours[this.of[number]];
        const [x, y] = this.place(points[number], side);
        pen.fillRect(x - radius, y - radius, 2 * radius, 2 * radius);
      }
      if (this.under >= 0) {
        const [x, y] = this.place(points[this.under], side);
        pen.globalAlpha = 1;
        pen.strokeStyle = ink;
        pen.lineWidth = 2;
        pen.strokeRect(x - 6, y - 6, 12, 12);
      }
    }
  }

  point({ canvas, index }, event) {
    const side = canvas.clientWidth, points = this[this.kind][index];
    let best = 144, found = -1;
    for (let number = 0; number < points.length; number++) {
      const [x, y] = this.place(points[number], side), far = (x - event.offsetX) ** 2 + (y - event.offsetY) ** 2;
      if (far < best) [best, found] = [far, number];
    }
    if (found !== this.under) {
      this.under = found;
      this.draw();
    }
    this.tip.hidden = found < 0;
    if (found < 0) return;
    this.words.textContent = this.images[found] + (this.categories[this.of[found]] ? ` · ${this.categories[this.of[found]]}` : "");
    const shown = this.sprite && found < this.most;
    this.picture.style.backgroundImage = shown ? `url("${pictures.src(this.sprite)}")` : "none";
    this.picture.style.backgroundPosition = `-${(found % this.columns) * this.side}px -${Math.floor(found / this.columns) * this.side}px`;
    this.tip.style.left = `${event.pageX + 14}px`;
    this.tip.style.top = `${event.pageY + 14}px`;
  }
}

function startEmbeddings({ layers, ...sizes }) {
  document.documentElement.classList.add("js-layouts");
  for (const box of document.querySelectorAll(".layouts")) new Layouts(layers[box.dataset.layer], sizes, box);
}

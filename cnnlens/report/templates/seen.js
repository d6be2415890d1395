// Images as units see them: every image is there once, and an SVG's view box cuts it out.
const STEPS = 15; // of a map: its peak

class Sight {
  // names: of the pictures of its images, or null
  constructor({ seen, wide, map, images }, names) {
    Object.assign(this, { wide, map, images });
    [this.size, this.axes] = [seen?.size ?? [1, 1], seen?.axes ?? null];
    this.keys = names.map((name) => name && `images/${name}.webp`);
    this.whole = !this.axes || this.axes.every(([, , size, whole], axis) => whole || size >= this.size[axis]);
  }

  // The receptive field at a place: [from, to] down and across; it may stick out of the image.
  field(place) {
    const at = [Math.floor(place / this.wide), place % this.wide];
    return this.axes.map(([start, stride, size, whole], axis) => {
      const centre = start + at[axis] * stride;
      return whole ? [0, this.size[axis]] : [Math.floor(centre - size / 2), Math.ceil(centre + size / 2)];
    });
  }

  // The square to show: around the field, moved into the image at its border, or the whole image.
  box(place, crop) {
    const [[top, bottom], [left, right]] = crop && !this.whole ? this.field(place) : [[0, this.size[0]], [0, this.size[1]]];
    const side = Math.max(bottom - top, right - left);
    const moved = (from, to, length) => (side > length ? (length - side) / 2 : Math.min(Math.max((from + to - side) / 2, 0), length - side));
    return `${moved(left, right, this.size[1])} ${moved(top, bottom, this.size[0])} ${side} ${side}`;
  }

  // An image at a place. With `switched` it follows the switches of the panel.
  see(image, place, { map = "", level = 0.5, switched = false, whole = false } = {}) {
    const key = this.keys[image], name = this.images[image], [high, wide] = this.size;
    const node = svg("svg", { class: "see", viewBox: this.box(place, !whole && (!switched || looking.crop)), role: "img", "aria-label": name });
    if (key) node.append(svg("image", { href: pictures.src(key), width: wide, height: high, preserveAspectRatio: "none" }));
    if (!switched) return node;
    node.look = () => {
      node.setAttribute("viewBox", this.box(place, !whole && looking.crop));
      if (looking.masks && map && !node.querySelector(".mask")) node.append(...this.mask(map, level));
      node.classList.toggle("masked", looking.masks);
    };
    node.look();
    return node;
  }

  mask(text, level) {
    const line = outline(mapOf(text), ...this.map, this.size, level * STEPS), [high, wide] = this.size;
    return [
      svg("path", { class: "shade", "fill-rule": "evenodd", d: `M0,0H${wide}V${high}H0Z${line}` }),
      svg("path", { class: "mask", d: line, "vector-effect": "non-scaling-stroke" }),
    ];
  }
}

// What the panel's switches say.
const looking = { crop: true, masks: false };

// A map in hexadecimal digits; letters from g on are so many zeros.
function mapOf(text) {
  const digits = text.replace(/[g-z]/g, (run) => "0".repeat(run.charCodeAt(0) - 102));
  return Array.from(digits, (digit) => parseInt(digit, 16));
}

// From where to where a line runs through a square of four centres, what is above to its left, by
// which corners are above: 8 top left, 4 top right, 2 bottom right, 1 bottom left.
const LINES = ["", "BL", "RB", "RL", "TR", "TRBL", "TB", "TL", "LT", "BT", "LTRB", "RT", "LR", "BR", "LB", ""];

// The line at a level, as an SVG path in pixels of the image (marching squares).
function outline(map, rows, columns, [high, wide], level = STEPS / 2) {
  const cell = (r, c) => (r < 0 || c < 0 || r > rows + 1 || c > columns + 1 ? 0 : map[Math.min(Math.max(r - 1, 0), rows - 1) * columns + Math.min(Math.max(c - 1, 0), columns - 1)]);
  const along = (at, cells, length) => (Math.min(Math.max(at - 0.5, 0), cells) * length) / cells;
  const next = new Map(), place = new Map();
  // cells 0 and rows + 1 repeat the border's, those beyond are 0, so that lines close there
  for (let r = -1; r <= rows + 1; r++) {
    for (let c = -1; c <= columns + 1; c++) {
      const [a, b, d, e] = [cell(r, c), cell(r, c + 1), cell(r + 1, c + 1), cell(r + 1, c)];
      const lines = LINES[(a > level) * 8 + (b > level) * 4 + (d > level) * 2 + (e > level)];
      for (let at = 0; at < lines.length; at += 2) {
        const [from, to] = [lines[at], lines[at + 1]].map((side) => {
          const [key, v, w, y, x, down] = { T: [`h${r},${c}`, a, b, r, c, 0], B: [`h${r + 1},${c}`, e, d, r + 1, c, 0], L: [`v${r},${c}`, a, e, r, c, 1], R: [`v${r},${c + 1}`, b, d, r, c + 1, 1] }[side];
          const part = (level - v) / (w - v);
          place.set(key, `${along(x + (down ? 0 : part), columns, wide).toFixed(1)},${along(y + (down ? part : 0), rows, high).toFixed(1)}`);
          return key;
        });
        next.set(from, to);
      }
    }
  }
  let path = "";
  for (const start of [...next.keys()]) {
    if (!next.has(start)) continue;
    const points = [];
    for (let at = start; next.has(at); ) {
      const to = next.get(at);
      points.push(place.get(at));
      next.delete(at);
      at = to;
    }
    path += `M${points.join(" ")}Z`;
  }
  return path;
}

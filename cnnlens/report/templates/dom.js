// Words for numbers, pictures by key, strips that load late.

const fixed = (number, digits) => (number === null || number === undefined ? "–" : number.toFixed(digits));
const whole = (number) => (number === null || number === undefined ? "–" : number.toLocaleString("en"));
const short = (number) => (number === null ? "–" : String(Number(number.toPrecision(3))));
const pText = (p) => (p === null ? "–" : p < 1e-4 ? "< 0.0001" : String(Number(p.toPrecision(2))));
const plural = (count, word) => `${whole(count)} ${word}${count === 1 ? "" : "s"}`;

// A name that may be broken between its parts, as the page's own title.
const byParts = (name) => name.match(/\.?(?:\d[_.](?=\d)|[^_/\\:.])*[_/\\:]*/g).filter(Boolean).map((part, at) => (at ? [h("wbr"), part] : part));

// Parts of a sheet, each by itself with its words.
function apartOf(src, apart) {
  return h("div", { class: "apart" }, apart.map(([words, box]) => h("figure", {}, svg("svg", { viewBox: box.join(" "), role: "img", "aria-label": words }, svg("image", { href: src })), h("figcaption", { class: "small" }, words))));
}

// Pictures by key. Those that the page itself shows stand in its HTML, the others in a block that
// is read when the first one is wanted.
const pictures = {
  get known() {
    const known = JSON.parse(document.getElementById("pictures").textContent);
    for (const image of document.querySelectorAll("[data-key]"))
      known[image.dataset.key] = image.getAttribute("src") ?? image.getAttribute("href");
    Object.defineProperty(this, "known", { value: known });
    return known;
  },
  src(key) {
    return key === null ? null : this.known[key] ?? null;
  },
};

// A strip of top images that loads when it comes near the screen.
const nearing = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      nearing.unobserve(target);
      const image = target.querySelector("img[data-lazy]");
      if (image) image.src = pictures.src(image.dataset.lazy);
    }
  },
  { rootMargin: "300px" },
);

function strip(key, alt) {
  if (key === null) return h("div", { class: "strip none" });
  const box = h("div", { class: "strip" }, h("img", { "data-lazy": key, alt, decoding: "async" }));
  nearing.observe(box);
  return box;
}

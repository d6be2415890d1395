// Distribution of a unit's activations: counts on a logarithmic scale, its threshold marked.
function histogram({ counts, edges }, threshold) {
  const [width, height, left, top, bottom] = [460, 190, 40, 26, 24];
  const low = edges[0], high = edges[edges.length - 1], span = high - low || 1;
  const decades = Math.max(1, Math.ceil(Math.log10(Math.max(...counts, 1) + 1)));
  const x = (value) => left + ((value - low) / span) * (width - left - 8);
  const y = (count) => height - bottom - (Math.log10(count + 1) / decades) * (height - top - bottom);
  const chart = svg("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img" });
  chart.append(svg("title", {}, describe(low, high, threshold)));
  for (let power = 0; power <= decades; power += decades > 5 ? 2 : 1) {
    const at = y(10 ** power - (power ? 0 : 1));
    chart.append(svg("line", { class: "axis", x1: left, x2: width - 8, y1: at, y2: at }));
    chart.append(svg("text", { x: left - 6, y: at + 4, "text-anchor": "end" }, power ? tenTo(power) : "0"));
  }
  counts.forEach((count, bin) => {
    if (!count) return;
    const from = x(edges[bin]), to = Math.max(x(edges[bin + 1]), from + 0.5), gap = to - from > 3 ? 0.6 : 0;
    const side = threshold !== null && edges[bin] >= threshold ? "above" : "below";
    chart.append(svg("rect", { class: side, x: from, y: y(count), width: to - from - gap, height: height - bottom - y(count) }));
  });
  for (const [value, anchor] of [[low, "start"], [high, "end"]])
    chart.append(svg("text", { x: x(value), y: height - 7, "text-anchor": anchor }, short(value)));
  if (threshold !== null && threshold >= low && threshold <= high) {
    const at = x(threshold), anchor = at > width * 0.7 ? "end" : "start";
    chart.append(svg("line", { class: "cut", x1: at, x2: at, y1: top - 12, y2: height - bottom }));
    const beside = at + (anchor === "end" ? -5 : 5);
    chart.append(svg("text", { class: "cut-label", x: beside, y: top - 4, "text-anchor": anchor }, `threshold ${short(threshold)}`));
  }
  return chart;
}

function tenTo(power) {
  return power < 3 ? String(10 ** power) : power < 6 ? `${10 ** (power - 3)}k` : `${10 ** (power - 6)}M`;
}

function describe(low, high, threshold) {
  const range = `Activations from ${short(low)} to ${short(high)}`;
  return threshold === null ? range : `${range}, threshold ${short(threshold)}`;
}

// One bar of an IoU list; the faint line marks the detector threshold.
function rank(what, iou, longest, colour, mark) {
  const vars = { "--v": Math.min(iou / longest, 1), "--c": colour };
  const track = h("span", { class: "track", vars }, h("i", { class: "fill" }));
  if (mark !== null && mark <= longest)
    track.append(h("i", { class: "tick", vars: { "--chance": mark / longest } }));
  return h("li", {}, h("span", { class: "what" }, what), track, h("span", { class: "value" }, fixed(iou, 3)));
}

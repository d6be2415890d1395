// Tabs over panes: [[title, node], ...]; the first is shown.
function tabs(panes, label, layers = false) {
  const buttons = panes.map(([title, pane], index) => h("button", { type: "button", role: "tab", id: `${pane.id ||= `pane-${++tabs.made}`}-tab`, "aria-controls": pane.id, class: "name", onclick: () => select(index) }, title));
  const chosen = { now: 0, then: [] };
  const select = (index) => {
    chosen.now = index;
    panes.forEach(([, pane], other) => {
      if (layers) pane.classList.toggle("inactive", other !== index);
      else pane.hidden = other !== index;
      buttons[other].setAttribute("aria-selected", other === index);
      buttons[other].tabIndex = other === index ? 0 : -1;
    });
    for (const act of chosen.then) act(index);
  };
  const keys = (event) => {
    const to = { ArrowRight: chosen.now + 1, ArrowLeft: chosen.now - 1, Home: 0, End: panes.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    select((to + panes.length) % panes.length);
    buttons[chosen.now].focus();
  };
  panes.forEach(([, pane], index) => {
    pane.setAttribute("role", "tabpanel");
    pane.setAttribute("aria-labelledby", buttons[index].id);
  });
  select(0);
  return { node: h("div", { class: `tabs${layers ? " layers" : ""}`, role: "tablist", "aria-label": label, onkeydown: keys }, buttons), select, chosen };
}
tabs.made = 0;

function go(hash) {
  location.hash = hash;
}

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const atUnit = read("at-unit");
const { dissect, units, filters, embed, evolve } = read("data");
const dissected = dissect ? startDissection(dissect) : [];
if (units) allUnits.start(units, dissected);
if (filters) startFilters(filters);
if (embed) startEmbeddings(embed);
if (evolve) startEvolution(evolve);
panel.start();

function startDissection({ categories, layers }) {
  const sections = [...document.querySelectorAll(".layer")];
  const all = layers.map((data, index) => new DissectedLayer(data, categories, sections[index]));
  document.documentElement.classList.add("js");
  const nav = tabs(all.map((layer) => [layer.name, layer.section]), "Layers", true);
  if (all.length > 1) document.getElementById("layers").prepend(nav.node);
  nav.chosen.then.push((index) => all[index].start());
  const find = (name) => {
    const index = all.findIndex((layer) => layer.name === name);
    if (index >= 0 && index !== nav.chosen.now) nav.select(index);
    return all[index];
  };
  panel.routes.layer = ([name]) => void find(name);
  panel.routes.concept = ([name, category, ...label]) => {
    const layer = find(name), concept = layer?.concepts.find((c) => c.label === label.join(":") && categories[c.category] === category);
    return concept ? layer.showConcept(concept) : null;
  };
  all[0].start();
  return all;
}

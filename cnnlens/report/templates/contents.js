// The contents bar shows where one is. Sections fold, and stay in this tab as they were left.
function startContents() {
  document.documentElement.classList.add("js");
  const folds = [...document.querySelectorAll("details.fold")], key = `cnnlens ${location.pathname}`;
  const folded = () => folds.filter((fold) => !fold.open).map((fold) => fold.parentNode.id);
  try {
    const left = JSON.parse(sessionStorage.getItem(key) ?? "[]");
    for (const fold of folds) fold.open = !left.includes(fold.parentNode.id);
  } catch {
    // no storage here: all sections are open
  }
  let printing = [];
  const keep = () => {
    if (bar) bar.querySelector(".folds").textContent = folds.some((fold) => fold.open) ? "Fold all" : "Unfold all";
    try {
      if (!printing.length) sessionStorage.setItem(key, JSON.stringify(folded()));
    } catch {
      // nor can it be kept
    }
  };
  const reveal = () => {
    const there = targetOf(location.hash), fold = there?.closest("section.overview")?.querySelector("details.fold");
    if (!fold) return;
    fold.open = true;
    const pane = there.closest("[role=tabpanel]");
    if (pane) document.getElementById(pane.getAttribute("aria-labelledby")).click();
    there.scrollIntoView();
  };
  const bar = document.querySelector(".contents");
  for (const fold of folds) fold.addEventListener("toggle", keep);
  addEventListener("hashchange", reveal);
  addEventListener("load", reveal); // tabs are made by then
  addEventListener("beforeprint", () => {
    printing = folds.filter((fold) => !fold.open);
    for (const fold of folds) fold.open = true;
    for (const image of document.querySelectorAll("img[loading]")) image.loading = "eager";
  });
  addEventListener("afterprint", () => {
    for (const fold of printing) fold.open = false;
    printing = [];
  });
  if (bar) startBar(bar, folds, reveal);
  keep();
}

function targetOf(hash) {
  try {
    return document.getElementById(decodeURIComponent(hash.slice(1)));
  } catch {
    return null; // no address of ours
  }
}

function startBar(bar, folds, reveal) {
  const opens = bar.querySelector(".opens"), here = bar.querySelector(".here");
  const links = [...bar.querySelectorAll("a")].map((link) => [link, targetOf(link.hash)]);
  const open = (yes) => {
    bar.classList.toggle("open", yes);
    opens.setAttribute("aria-expanded", yes);
  };
  const mark = () => {
    const seen = links.filter(([, there]) => there?.checkVisibility?.() ?? there);
    const atEnd = scrollY > 0 && scrollY + innerHeight >= document.documentElement.scrollHeight - 2;
    const line = atEnd ? innerHeight : innerHeight / 4; // what stands last can come no higher
    const above = seen.filter(([, there]) => there.getBoundingClientRect().top < line);
    const [now] = above.at(-1) ?? seen[0] ?? [];
    for (const [link] of links) {
      if (link !== now) link.removeAttribute("aria-current");
      else if (!link.hasAttribute("aria-current")) {
        link.setAttribute("aria-current", "true");
        here.textContent = link.textContent;
      }
    }
  };
  let frame;
  const later = () => {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(mark);
  };
  for (const name of ["scroll", "resize"]) addEventListener(name, later, { passive: true });
  for (const fold of folds) fold.addEventListener("toggle", later);
  bar.addEventListener("click", (event) => {
    if (!event.target.closest("a")) return;
    open(false);
    if (event.target.closest("a").hash === location.hash) reveal();
  });
  bar.addEventListener("keydown", (event) => event.key === "Escape" && open(false));
  opens.addEventListener("click", () => open(!bar.classList.contains("open")));
  bar.querySelector(".folds").addEventListener("click", () => {
    const yes = !folds.some((fold) => fold.open);
    for (const fold of folds) fold.open = yes;
  });
  mark();
}

startContents();

"""Sections of the page that are pictures and figures: each gathered from a workspace, as data.

Every function gives None where its command has left nothing, and raises a `CnnlensError` that
names a damaged file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from markupsafe import Markup

from cnnlens.errors import CnnlensError, counted, plain
from cnnlens.model.matching import natural
from cnnlens.report.blocks import (
    Cell,
    Figure,
    Gallery,
    Layer,
    Note,
    Section,
    Shot,
    Table,
    Text,
    number,
    reach,
    section_of,
    sentence,
)
from cnnlens.report.clusters import critical_rules
from cnnlens.report.contents import (
    Entries,
    finished,
    last_part,
    listed,
    listed_layers,
    local,
    read_object,
    reading,
)
from cnnlens.report.dissect_files import labels
from cnnlens.report.figures.explained import predicted, turned
from cnnlens.report.figures.generated import said
from cnnlens.report.figures.parts import part_marks
from cnnlens.report.method_names import CLASS_MAPS, OPTIMIZED, PROJECTIONS
from cnnlens.report.stability_files import StabilityResult, read_stability


def visualizations(workspace: Path) -> Section | None:
    """Gather the section about activation maximization: what each unit wants to see."""

    def block(document: Mapping[str, Any], entries: Entries, file: Path) -> Layer:
        name, label = str(document["layer"]), _label(workspace, file)
        shots = [_optimized(e, path, label(e)) for e, path in entries]
        shots.sort(key=lambda s: (s.unit is None, s.unit or 0, natural(s.title)))
        failed = document.get("failed") or {}
        notes = [Text(f"No picture of {unit}: it {why}.") for unit, why in failed.items()]
        heading = "Classes" if name == "logits" else ""
        shown = None if heading else 12
        return Layer(name, Gallery(shots, shown), *notes, heading=heading)

    return _by_layer(workspace, "visualize", "What its units want to see", block)


def _by_layer(
    workspace: Path, command: str, title: str, block: Callable[..., Layer]
) -> Section | None:
    """Gather a section with a block for every layer that a command has left pictures of."""
    files, layers = [], []
    for file, document, entries in listed_layers(workspace, command):
        with reading(file):
            layers.append(block(document, entries, file))
        files.append(file)
    return section_of(command, title, layers, files)


def _label(workspace: Path, file: Path) -> Callable[[Mapping[str, Any]], str]:
    """Look labels up in the dissection, as it is now; without one an entry's own stands."""
    if not (workspace / "dissect" / file.parent.name / "units.csv").is_file():
        return lambda entry: str(entry.get("label") or "")
    known: dict[int, tuple[str, str, float]] = {}
    with suppress(CnnlensError):  # a damaged one is named by its own section
        known = labels(workspace, file.parent.name)
    return lambda entry: known.get(entry.get("unit", -1), ("",))[0]


def _optimized(entry: Mapping[str, Any], path: Path, label: str) -> Shot:
    at, unit = entry.get("position"), entry.get("unit")
    name = "the whole layer" if unit is None else f"unit {unit}"
    name = str(entry.get("class") or entry.get("concept") or name)
    name += f" at {at[0]},{at[1]}" if at else ""
    name += f" ({entry['variant']})" if entry.get("variant") else ""
    init = str(entry.get("made_from", {}).get("settings", {}).get("init", "noise"))
    start = {"noise": "noise", "mean": "the mean colour"}.get(init, Path(init).name)
    how = OPTIMIZED.get(entry.get("made_from", {}).get("settings", {}).get("method", ""), "")
    caption = f"{plain(float(entry['initial']))} → {plain(float(entry['final']))}"
    if times := entry.get("times_best"):
        caption += f", peak {float(times):.1f} × the best image’s"
        best_of = entry.get("best_of")  # earlier versions lack it
        caption += f" of {last_part(str(best_of.get('name')))}" if isinstance(best_of, dict) else ""
    if taken := entry.get("taken_for"):
        caption += f", taken for {taken}"
    words = f"Optimized {how}{how and ' '}from {start}: {caption}."
    if near := entry.get("nearest"):
        words = f"{words} The photo nearest to it is {said(near['pixels'])}."
    beside = path.parent / str(entry.get("beside") or path.name)
    caption = f"{how}{how and ': '}{caption}"
    return Shot(
        path, name, caption, label, alt=f"Image that excites {name}",
        unit=None if unit is None else int(unit), heading="What it wants to see",
        words=words, large=beside if beside.is_file() else path,
    )  # fmt: skip


def projections(workspace: Path) -> Section | None:
    """Gather the section about DeconvNet: what drove each unit."""

    def block(document: Mapping[str, Any], entries: Entries, file: Path) -> Layer:
        name = str(document.get("layer") or file.parent.name)
        shots = [_projected(name, entry, path) for entry, path in entries]
        dead = ", ".join(map(str, document.get("dead_units") or ()))
        count = f"{len(shots)} {'unit was' if len(shots) == 1 else 'units were'} projected"
        said = Text(count + (f"; dead: {dead}." if dead else "."), "small")
        return Layer(name, said, Gallery(shots, shown=3, wide=True))

    return _by_layer(workspace, "deconv", "What drove its units", block)


def _projected(layer: str, entry: Mapping[str, Any], path: Path) -> Shot:
    at, usual = entry.get("position"), PROJECTIONS["deconvnet"]
    method = str(entry.get("method", "deconvnet"))
    how = PROJECTIONS.get(method, method)
    where = f" at position {at[0]},{at[1]}" if at else ""
    of = _seen_images(entry)
    words = (
        f"Image patches{of and f' ({of})'}, their projections ({how}{where}; grey is 0), and the "
        "patches masked by them."
    )
    if entry.get("dead"):
        words = f"Dead: {entry['dead']}."
    if not isinstance(entry["unit"], int):
        raise ValueError("a picture names no unit")
    peaks = [float(one["activation"]) for one in entry.get("images") or ()]
    said = f"activation {reach(peaks)}" if peaks else ""
    by = f"by {how}" if how != usual else ""
    said = ": ".join(filter(None, (", ".join(filter(None, (of, by))), said)))
    return Shot(
        path, f"unit {entry['unit']}", said, str(entry.get("label") or ""),
        alt=f"Projections of unit {path.stem} of {layer}", unit=entry["unit"],
        heading="What would change it" if method == "gradient" else "What drove it", words=words,
    )  # fmt: skip


def _seen_images(entry: Mapping[str, Any]) -> str:
    """Say which images a unit was projected on: those of a folder differ from picture to picture.

    Entries of earlier versions do not say of how many images theirs are the top.
    """
    if "of" in entry:
        return str(entry["of"])
    of, count = entry.get("made_from", {}).get("of") or {}, len(entry.get("images") or ())
    if "given" in of:
        return counted(count, "given image")
    return f"top {count} of {of['name']}" if of.get("name") else ""


def class_maps(workspace: Path) -> Section | None:
    """Gather the section about class activation maps: where the network sees a class."""
    file = workspace / "cam" / "cam.json"
    _, entries = listed(file) if file.exists() else ({}, [])
    names = [local(str(entry.get("image", path.stem)), workspace) for entry, path in entries]
    shots = [
        Shot(path, name, _mapped(entry), alt=f"Class maps of {name}")
        for name, (entry, path) in zip(names, entries, strict=True)
    ]
    parts = [Gallery(shots, wide=True)] if shots else []
    return section_of("cam", "Where it sees a class", parts, [file])


def _mapped(entry: Mapping[str, Any]) -> str:
    """Say how class maps were made, and of which layer."""
    method, where = str(entry.get("method", "")), f"at {entry.get('layer', '')}"
    return f"{CLASS_MAPS.get(method, method)} {where}".strip()


def explanations(workspace: Path) -> Section | None:
    """Gather the section about explained images: their path down a tree of filters."""
    shots: list[tuple[bool | None, Shot]] = []  # with whether the prediction is right
    files, documents = [], []
    for file in sorted((workspace / "explain").glob("*.json")):
        found = read_object(file, ("image", "class", "path"))
        with reading(file, _EXPLAIN_ANEW):
            if (picture := file.with_suffix(".png")).is_file():
                shots.append((found.get("right"), _explained(found, picture, workspace)))
                files.append(file)
                documents.append(found)
    shots.sort(key=lambda shot: shot[0] is not False)  # what is wrong comes first
    gallery = Gallery([shot for _, shot in shots], 12, True)
    parts = [*_wrong([right for right, _ in shots]), gallery] if shots else []
    rules = critical_rules(documents)
    return section_of("explain", "An image’s path down the filters", parts, files, rules=rules)


def _wrong(verdicts: list[bool | None]) -> list[Text]:
    """Say how many of the images that are of a class of the network it predicts wrongly."""
    judged, wrong = len(verdicts) - verdicts.count(None), verdicts.count(False)
    if not wrong:
        return []
    of = counted(judged, "image") + (" of known class" if judged < len(verdicts) else "")
    first = "is predicted wrongly; it comes" if wrong == 1 else "are predicted wrongly; they come"
    return [Text(f"{wrong} of {of} {first} first.", "small")]


_EXPLAIN_ANEW = "redo `cnnlens explain` with --force"


def _explained(found: Mapping[str, Any], picture: Path, workspace: Path) -> Shot:
    image = local(str(found["image"]), workspace)
    where = f"{found.get('category', '')} in {found.get('layer', '')}"
    said = [predicted(found), turned(found)] if "right" in found else []
    words = " ".join(sentence(one) for one in said if one)
    return Shot(
        picture, title=image, caption=words, alt=f"The path of {image} down the filters of {where}"
    )


def parts(workspace: Path) -> Section | None:
    """Gather the section about parts: whether units follow them from object to object."""
    folders = finished(workspace, "stability")
    found = [read_stability(folder) for folder in folders]
    if not found:
        return None
    measured = Table(
        ["Layer", "Instability", "shuffled", "random", "centre", "Steadier than shuffled "
         "(p < .05)", "Selectivity", "Peaks’ distance from the centre", "Dead", "Objects"],
        [_measured(one) for one in found],
    )  # fmt: skip
    heads = ["Layer", "Share of activations in the mask", "Part interpretability", "by chance",
             "at most"]  # fmt: skip
    masks = [row for one in found for row in _masks(one)]
    marks = part_marks([part["name"] for part in found[-1].summary["parts"]]).items()
    dot = Markup('<span><span class="dot part {}" style="--dot: {}"></span> {}</span>')
    legend = Markup("").join(dot.format(mark.shape, mark.colour, part) for part, mark in marks)
    blocks = [
        measured,
        *([Note("masks"), Table(heads, masks)] if masks else []),
        *(_peaks(one) for one in found),
        Text(legend, "legend"),
    ]
    sources = [folder / "summary.json" for folder in folders]
    return section_of("stability", "Do its units follow an object’s parts?", blocks, sources)


def _measured(found: StabilityResult) -> list[Any]:
    s = found.summary
    with reading(found.folder / "summary.json", "redo `cnnlens stability` with --force"):
        base = [Cell(number(s["baselines"][k], 4)) for k in ("shuffled", "uniform", "centre")]
        steady, by_chance = s.get("steadier_than_shuffled"), s.get("selectivity_chance")
        return [
            found.name,
            Cell(number(s["location_instability"], 4), strong=True),
            *base,
            steady and Cell(f"{steady['units']} units",
                            note=f"(by chance {steady['by_chance']:.0f})"),
            Cell(number(s.get("selectivity"), 3),
                 note="" if by_chance is None else f"(by chance {by_chance:.3f})"),
            Cell(number(s["centre_distance"], 4)),
            Cell(f"{s['dead_units']} of {s['units']}"),
            Cell(number(s["images"])),
        ]  # fmt: skip


def _masks(found: StabilityResult) -> list[list[Any]]:
    rows = found.summary["interpretability"]
    keys = ("quantile", "part_interpretability", "chance", "bound")
    return [
        [found.name, *(Cell(number(row[k], 4), strong=k == keys[1]) for k in keys)] for row in rows
    ]


def _peaks(found: StabilityResult) -> Layer:
    where = found.folder / "where.png"
    caption = (
        "Where its units peak: on the object that excites them most, and on all objects of the "
        "category. Dots are the parts."
    )
    steadiest = [unit.unit for unit in found.best()]
    rank = {unit: place for place, unit in enumerate(steadiest)}
    shots = [
        Shot(u.picture, f"unit {u.unit}", u.words, alt=f"Unit {u.unit} on its top objects",
             unit=u.unit, heading="Where it peaks on objects")
        for u in sorted(found.units, key=lambda u: rank.get(u.unit, len(rank)))
        if u.picture
    ]  # fmt: skip
    figure = [Figure(where, caption)] if where.is_file() else []
    return Layer(found.name, *figure, Gallery(shots, shown=3, wide=True))

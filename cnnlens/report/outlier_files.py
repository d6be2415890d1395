"""``WORKSPACE/outliers``: outliers.json and its pictures, written, read back and shown."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnlens.cluster.outliers import Outliers
from cnnlens.errors import first_of
from cnnlens.files import write_json
from cnnlens.report.blocks import (
    Facts,
    Figure,
    Note,
    Section,
    Shot,
    Table,
    Text,
    number,
    percent,
    sentence,
)
from cnnlens.report.confusion_files import gallery, heat, matrix
from cnnlens.report.contents import read_object, reading
from cnnlens.report.figures import save_figure, save_image
from cnnlens.report.figures.outliers import CLASSES, SOURCES, draw_noise, draw_predictions
from cnnlens.report.shown import Fact, Picture, Shown

_REDO = "redo `cnnlens outliers` with --force"


@dataclass(frozen=True, eq=False)
class OutlierResult(Shown):
    """What images that belong to none of the classes are predicted as.

    Attributes
    ----------
    folder : pathlib.Path
        ``WORKSPACE/outliers``.
    sources : list of dict
        "source", "images", "confidence", and the classes they are "taken_for".
    noise : dict or None
        The class that noise falls to, with its bias's and its region's rank.
    regions : dict or None
        Radius of each category's region, and clusters named after categories.
    """

    folder: Path
    sources: list[dict[str, Any]]
    noise: dict[str, Any] | None
    regions: dict[str, Any] | None

    @property
    def words(self) -> list[str]:
        """Where noise falls and what clusters say, for people."""
        said = []
        if noise := self.noise:
            said.append(
                f"noise falls to {noise['name']} ({noise['share']:.0%}): rank of its bias "
                f"{_rank(noise['bias'])}, of its radius {_rank(noise['radius'])}"
            )
        if self.regions and (clusters := self.regions["clusters"]):
            share = _beside_chance(clusters, "{:.0%}".format)
            said.append(
                f"clusters: purity {share['purity']}; both ways of naming agree on "
                f"{share['agreement']}, right for {share['optimal_accuracy']} as an optimal "
                f"assignment and {share['stable_accuracy']} of the images as a stable marriage"
            )
        return said

    def table(self) -> list[dict[str, Any]]:
        """Give a row per source and class that its images are predicted as."""
        return [
            {
                **{key: one[key] for key in ("source", "images", "confidence")},
                **{key: found[key] for key in ("class", "name", "share")},
            }
            for one in self.sources
            for found in one["taken_for"]
        ]

    def _title(self) -> str:
        return "What images of no class are predicted as"

    def _facts(self) -> Iterable[Fact]:
        for one in self.sources:
            first = one["taken_for"][0]
            yield one["source"], f"{first['name']} {first['share']:.0%}", ""

    def _shots(self) -> Iterable[tuple[str, Picture]]:
        files = [self.folder / name for name in ("predictions.png", "noise.png")]
        texts = [" ".join(self.words[:1]), " ".join(self.words[1:])]
        return [(words, f) for words, f in zip(texts, files, strict=True) if f.is_file()]


def read_outliers(folder: Path) -> OutlierResult:
    """Read what outliers left; a damaged file is named (`CnnlensError`)."""
    file = folder / "outliers.json"
    found = read_object(file, ("sources", "noise", "regions"), _REDO)
    with reading(file, _REDO):
        result = OutlierResult(folder, list(found["sources"]), found["noise"], found["regions"])
        result.table(), list(result._facts()), result.words
    return result


def write_outliers(folder: Path, found: Outliers, document: Mapping[str, Any]) -> None:
    """Write the pictures of what was found, then the JSON."""
    sources = [one.source for one in found.predicted]
    shares = np.stack([one.shares for one in found.predicted])
    save_figure(draw_predictions(sources, shares, found.names), folder / "predictions.png")
    if noise := found.noise:
        values = (noise.shares, noise.bias.values, noise.radius.values)
        save_figure(draw_noise(*values, found.names), folder / "noise.png")
    else:
        (folder / "noise.png").unlink(missing_ok=True)
    write_json(folder / "outliers.json", dict(document))


def write_surest(
    folder: Path,
    worst: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    seen: Callable[[int], np.ndarray],
) -> list[dict[str, Any]]:
    """Write the images of `surest`, and say with each what it is called and its picture.

    `names` are the data's images; `seen` gives one by its position, (s, s, 3) uint8.
    """
    shutil.rmtree(folder / "images", ignore_errors=True)
    found = []
    for place, one in enumerate(worst):
        picture = f"images/{place}.webp"
        save_image(
            folder / picture, Image.fromarray(seen(one["row"])), "WEBP", quality=85, method=2
        )
        rest = {key: value for key, value in one.items() if key != "row"}
        found.append({"image": names[one["row"]], **rest, "picture": picture})
    return found


def _rank(guess: Mapping[str, Any]) -> str:
    """Write the rank of a value, of how many that are known; an earlier version left them out."""
    if not guess["rank"]:
        return "unknown"
    return f"{guess['rank']} of {guess['known']}" if "known" in guess else str(guess["rank"])


def _beside_chance(clusters: Mapping[str, Any], write: Callable[[float], str]) -> dict[str, str]:
    """Write the shares of clusters, each with its chance where that is known."""
    chance = clusters.get("chance") or {}  # of an earlier version there is none
    return {
        key: write(clusters[key]) + (f" (chance {write(chance[key]['mean'])})" if chance else "")
        for key in ("purity", "optimal_accuracy", "stable_accuracy", "agreement")
    }


# -- the section ---------------------------------------------------------------------------------


def outliers(workspace: Path) -> Section | None:
    """Gather the section about outliers: what the network takes strangers for."""
    folder = workspace / "outliers"
    if not (file := folder / "outliers.json").exists():
        return None
    document, found = read_object(file, ("layer",)), read_outliers(folder)
    with reading(file, _REDO):
        surest = [
            one for one in document.get("surest") or [] if (folder / one["picture"]).is_file()
        ]
        known = document.get("known")
        said = no_strangers(known, str(document.get("data"))) if known else ""
        parts = [
            *([Text(sentence(said), "small")] if said else ()),
            Facts(list(_noise_facts(found.noise, found.regions)) if found.noise else []),
            *_matrix(document, surest, folder),
            *_surest(surest, folder),
        ]
    if (drawn := folder / "noise.png").is_file():
        caption = "Classes by their share of the noise, with their bias and their region’s radius."
        parts.append(Figure(drawn, caption))
    title, note = "What it takes strangers for", Note("outliers", {"layer": document["layer"]})
    return Section("outliers", title, note, parts, [file])


def no_strangers(known: Sequence[str], data: str) -> str:
    """Say which folders of some data are called after classes of the network."""
    names = first_of(known, 6)
    return (
        f"{names}: folders of {data} that are called after classes of the network: their images "
        "are no strangers to it"
    )


def _matrix(
    document: Mapping[str, Any], surest: Sequence[Mapping[str, Any]], folder: Path
) -> Iterator[Table | Figure]:
    """Show the share of each source that is taken for each class, with the surest of its images."""
    sources = document["sources"][:SOURCES]
    if not (names := document.get("classes")):  # of an earlier version
        yield Figure(
            folder / "predictions.png", "Share of each source that is taken for each class."
        )
        return
    shares = np.array([one["shares"] for one in sources])  # (S, K)
    chosen = np.sort(np.argsort(-shares.max(axis=0), kind="stable")[:CLASSES]).tolist()
    shots: dict[str, list[Shot]] = {one["source"]: [] for one in sources}
    for image in surest:
        shots.get(image["source"], []).append(_small(image, folder))
    pictured = any(shots.values())
    rows = [
        [one["source"], *(heat(f"{v:.0%}" if v >= 0.01 else "·", v, "wrong") for v in row[chosen]),
         *([shots[one["source"]][:3]] if pictured else [])]
        for one, row in zip(sources, shares, strict=True)
    ]  # fmt: skip
    caption = "Rows: where images are from; columns: the share of them that is taken for each class"
    last = ["surest"] if pictured else []
    yield matrix(names, chosen, rows, caption, "that draw most", last)


def _small(one: Mapping[str, Any], folder: Path) -> Shot:
    return Shot(folder / one["picture"], alt=f"{one['image']}: taken for {one['name']}")


def _surest(images: Sequence[Mapping[str, Any]], folder: Path) -> list[Any]:
    """Show the strangers that the network is surest of, the surest first."""
    shots = [
        Shot(folder / one["picture"], f"{one['source']} → {one['name']}",
             f"{one['probability']:.1%} sure", alt=str(one["image"]))
        for one in images
    ]  # fmt: skip
    words = "The worst errors: the strangers that the network is surest of, and of what."
    return gallery(words, shots)


def _noise_facts(
    noise: Mapping[str, Any], regions: Mapping[str, Any] | None
) -> Iterable[tuple[str, str]]:
    yield "Noise falls to", f"{noise['name']} ({percent(noise['share'])})"
    for what in ("bias", "radius"):
        found, said = noise[what], "not known"
        if found["rank"]:
            said = f"rank {_rank(found)}"
            if (known := found.get("known", noise["classes"])) < noise["classes"]:
                said += f" classes for which it is known, of {noise['classes']}"
            if over := found.get("correlation"):
                rho, p = number(over["rho"], 2), number(over["p_value"], 3)
                which = "these" if known < noise["classes"] else "all classes"
                said += f"; over {which} ρ = {rho}, p = {p}"
        yield f"Its {what}", said
    if regions and (clusters := regions["clusters"]):
        share, how = _beside_chance(clusters, percent), ""
        if chance := clusters.get("chance"):
            how = (
                f" Chance: the same clusters named after categories that were shuffled among the "
                f"images, mean of {chance['shuffles']} times."
            )
        yield (
            "Clusters",
            f"k-means on {number(regions['images'])} images of {regions['data']}: purity "
            f"{share['purity']}. Named by optimal assignment they are right for "
            f"{share['optimal_accuracy']} of the images, as a stable marriage for "
            f"{share['stable_accuracy']}; both agree on {share['agreement']} of the clusters.{how}",
        )

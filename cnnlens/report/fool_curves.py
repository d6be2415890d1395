"""The curve of ``cnnlens fool``: which share of images is answered otherwise after which change."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.files import mark
from cnnlens.files.ledger import MADE_FROM, without_places
from cnnlens.report.figures import new_figure, save_figure

LEAST = 3  # images that make a curve


def curves(
    entries: Iterable[Mapping[str, Any]], asked: Collection[str] = ()
) -> dict[str, dict[str, Any]]:
    """Say how many images flip by what: by file, a curve for any other class, and per target.

    Parameters
    ----------
    entries : iterable of mapping
        Of all pictures that are kept.
    asked : collection of str
        Files of those that the latest run was asked for.

    Returns
    -------
    dict
        "to" (a class, or None for any other), "images", "asked" (of them, those of the latest run),
        "l2" (the smallest changes that were found, sorted), "median_l2", "noise": pairs of a length
        and the share that noise of it flips; "curves", where there are several to one class, how
        many. Each image counts once; those that are taken for the target as they are do not count.
        One curve holds what was made alike: to the same output, under the same names of classes,
        with the same settings.
    """
    groups: dict[tuple[str | None, str], list[Mapping[str, Any]]] = {}
    for entry in entries:
        if entry.get("noise") and not entry.get("already"):
            groups.setdefault((entry["target"], _alike(entry)), []).append(entry)
    found: dict[str, dict[str, Any]] = {}
    for number, ((target, _), all_of) in enumerate(groups.items()):
        group = _once(all_of, asked)
        if len(group) >= LEAST:
            plain = target is None and "curve.png" not in found
            name = "curve.png" if plain else f"curve-{number}.png"
            latest = sum(entry.get("file") in asked for entry in group)
            found[name] = _curve(target, group) | ({"asked": latest} if asked else {})
    counts = Counter(curve["to"] for curve in found.values())
    several = {to: {"curves": count} for to, count in counts.items() if count > 1}
    return {name: {**curve, **several.get(curve["to"], {})} for name, curve in found.items()}


def _alike(entry: Mapping[str, Any]) -> str:
    """Mark all that a change of an image depends on: not the image, nor which maps are shown, nor
    what classes are called that are not aimed at.
    """
    made_from = entry.get(MADE_FROM) or {}
    settings = {k: v for k, v in (made_from.get("settings") or {}).items() if k != "maps"}
    aside = {"image", "places", *(("names",) if entry["target"] is None else ())}
    return mark({k: v for k, v in {**made_from, "settings": settings}.items() if k not in aside})


def _once(group: Iterable[Mapping[str, Any]], asked: Collection[str]) -> list[Mapping[str, Any]]:
    """Leave one entry of each image, wherever it was; rather one of the latest run."""
    found: dict[str, Mapping[str, Any]] = {}
    for entry in group:
        image = (entry.get(MADE_FROM) or {}).get("image", entry.get("file"))
        if (one := str(without_places(image))) not in found or entry.get("file") in asked:
            found[one] = entry
    return list(found.values())


def _curve(target: str | None, group: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    lengths = sorted(entry["l2"] for entry in group if entry["l2"] is not None)
    sizes = group[0]["noise"]["l2"]
    shares = zip(*(entry["noise"]["flips"] for entry in group), strict=True)
    return {
        "to": target,
        "images": len(group),
        "median_l2": statistics.median(lengths) if lengths else None,
        "l2": lengths,
        "noise": [
            [size, statistics.mean(flips)] for size, flips in zip(sizes, shares, strict=True)
        ],
    }


def save_curve(path: Path, curve: Mapping[str, Any], values: int) -> None:
    """Draw which share of images is answered otherwise after a change of some length.

    Parameters
    ----------
    path : pathlib.Path
        The PNG; an SVG goes beside it.
    curve : mapping
        "l2": the smallest changes, one per image; "noise": pairs of a length and the share that
        noise of that length flips.
    values : int
        Values of an image: their square root turns a length into a root mean square.
    """
    lengths = np.sort(np.asarray(curve["l2"], float))
    figure = new_figure(6.4, 3.6)
    axes = figure.add_subplot()
    count, noise = len(lengths), np.asarray(curve["noise"], float)
    ends = min(lengths[0], noise[0, 0]) * 0.7, max(lengths[-1], noise[-1, 0]) * 1.4
    xs = np.concatenate([[ends[0]], lengths, [ends[1]]])
    shares = np.concatenate([[0], np.arange(1, count + 1), [count]]) / curve["images"]
    axes.step(xs, 100 * shares, where="post", color="#c95400", label="smallest change found")
    axes.plot(noise[:, 0], 100 * noise[:, 1], "o--", color="#0072b2", ms=4, label="random noise")
    axes.set(xscale="log", xlim=ends, ylim=(-3, 103), ylabel="images answered otherwise (%)")
    axes.set_xlabel("length of the change (L2, pixels from 0 to 1)")
    level = 255 / values**0.5
    above = axes.secondary_xaxis("top", functions=(lambda x: x * level, lambda x: x / level))
    above.set_xlabel("root mean square, in levels of 255")
    axes.legend(loc="best", frameon=False)
    axes.spines["right"].set_visible(False)
    figure.tight_layout()
    save_figure(figure, path)

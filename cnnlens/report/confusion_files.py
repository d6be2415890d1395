"""What a network confuses: ``cluster/confusion.json``, its tables, the images of its worst errors;
written, read back, and shown as a section of the page.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from cnnlens.files import write_json
from cnnlens.files.tables import write_csv
from cnnlens.measure.confusion import OTHER, Confusion, Mistake, summary
from cnnlens.report.blocks import (
    Cell,
    Gallery,
    Section,
    Shot,
    Table,
    Text,
    number,
    section_of,
    sentence,
)
from cnnlens.report.contents import read_object, reading
from cnnlens.report.figures import save_image

REDO = "redo `cnnlens cluster --only confusion` with --force"
PICTURES = "confusion"  # folder of the images of errors
_SUREST, _PAIRS, _EACH = 12, 8, 6  # errors, pairs, and images of a pair that have a picture
_ROWS = 24  # categories that the matrix shows


def write_confusion(
    folder: Path,
    found: Confusion,
    about: Mapping[str, Any],
    names: Sequence[str],
    seen: Callable[[int], np.ndarray],
) -> None:
    """Write what a network confuses.

    Parameters
    ----------
    folder : pathlib.Path
        ``WORKSPACE/cluster``.
    found : Confusion
        The matrix and its errors.
    about : mapping
        What joins the JSON.
    names : sequence of str
        Of the data's images, by position.
    seen : callable
        Gives an image by its position, (s, s, 3) uint8.
    """
    columns = [*found.categories, OTHER]
    rows = zip(found.categories, found.counts.tolist(), strict=True)
    write_csv(folder / "confusion.csv", ("true", *columns), ([name, *row] for name, row in rows))
    header = ("image", "true", "said", "probability", "probability_of_true")
    errors = ([names[e.row], e.true, e.said, e.probability, e.own] for e in found.mistakes)
    write_csv(folder / "errors.csv", header, errors)
    shutil.rmtree(folder / PICTURES, ignore_errors=True)
    for row in _pictured(found):
        picture = Image.fromarray(seen(row))
        save_image(folder / PICTURES / f"{row}.webp", picture, "WEBP", quality=85, method=2)

    def listed(mistakes: Sequence[Mistake]) -> list[dict[str, Any]]:
        return [
            {"image": names[e.row], "true": e.true, "said": e.said, "probability": e.probability,
             "own": e.own, "picture": f"{PICTURES}/{e.row}.webp"}
            for e in mistakes
        ]  # fmt: skip

    document = found.as_dict()
    for entry, (_, _, mistakes) in zip(document["pairs"][:_PAIRS], found.pairs(), strict=False):
        entry["worst"] = listed(mistakes[:_EACH])
    worst = listed(found.mistakes[:_SUREST])
    write_json(folder / "confusion.json", {**document, "worst": worst, **about})


def _pictured(found: Confusion) -> list[int]:
    """List the images that the page shows: of the surest errors, and of the usual ones."""
    usual = [one for _, _, mistakes in found.pairs()[:_PAIRS] for one in mistakes[:_EACH]]
    return sorted({one.row for one in (*found.mistakes[:_SUREST], *usual)})


_KEYS = (
    *("images", "right", "accuracy", "interval", "chance"),
    *("categories", "counts", "pairs", "worst"),
)


def read_confusion(folder: Path) -> dict[str, Any]:
    """Read ``confusion.json``; a damaged one is named (`CnnlensError`)."""
    return read_object(folder / "confusion.json", _KEYS, REDO)


# -- the section ---------------------------------------------------------------------------------


def confusions(workspace: Path) -> Section | None:
    """Gather the section about what a network confuses; None where that was not asked."""
    file = workspace / "cluster" / "confusion.json"
    if not file.exists():
        return None
    found = read_confusion(file.parent)
    with reading(file, REDO):
        said = summary(found)
        assumed = [one for key in ("classes_read", "trained_on") if (one := found.get(key))]
        parts = [
            Text(sentence(said), "lead"),
            *(Text(sentence(one), "small") for one in assumed),
            *_matrix(found),
            *_pairs(found, file.parent),
            *_surest(found, file.parent),
        ]
    return section_of("confusion", "What it confuses", parts, [file])


def _pairs(found: Mapping[str, Any], folder: Path) -> Iterator[Table]:
    rows = []
    for pair in found["pairs"][:_PAIRS]:
        shots = [_small(one, folder) for one in pair.get("worst", ())]
        count = Cell(f"{pair['images']} of {pair['of']}", strong=True)
        rows.append([pair["true"], pair["said"], count, [one for one in shots if one]])
    if rows:
        caption = "The most frequent confusions, each with the images it was surest of"
        yield Table(["is", "taken for", "images", None], rows, caption, "summary errors")


def _small(one: Mapping[str, Any], folder: Path) -> Shot | None:
    alt = f"{one['image']}: {one['true']} taken for {one['said']}"
    path = folder / one["picture"]
    return Shot(path, alt=alt) if path.is_file() else None


def _surest(found: Mapping[str, Any], folder: Path) -> list[Any]:
    shots = [
        Shot(folder / one["picture"], f"{one['true']} → {one['said']}",
             f"{one['probability']:.1%} sure; {one['true']} {one['own']:.1%}", alt=one["image"])
        for one in found["worst"]
        if (folder / one["picture"]).is_file()
    ]  # fmt: skip
    return gallery("The surest errors: what it is → what it is taken for.", shots)


def _matrix(found: Mapping[str, Any]) -> Iterator[Any]:
    """Show counts; of many classes those with the most errors."""
    names, counts = found["categories"], np.array(found["counts"])
    wrong = counts.sum(axis=1) - np.diagonal(counts)
    shown = sorted(np.argsort(-wrong, kind="stable")[:_ROWS].tolist())
    other = counts[:, -1:].any()
    columns = [*shown, *([len(names)] if other else [])]
    rows = [[names[i], *(_heat(counts, i, j) for j in columns)] for i in shown]
    caption = (
        "Rows: what an image is; columns: what it is taken for; the darker, the larger a share of "
        "the row"
    )
    which = "with the most errors; all are in confusion.csv"
    yield matrix(names, shown, rows, caption, which, [OTHER] if other else [])


def _heat(counts: np.ndarray, row: int, column: int) -> Markup:
    value, total = int(counts[row, column]), max(int(counts[row].sum()), 1)
    return heat(str(value or "·"), value / total, "right" if row == column else "wrong")


# -- what it shares with the section about outliers ------------------------------------------------


def matrix(
    names: Sequence[str],
    shown: Sequence[int],
    rows: Sequence[Sequence[Any]],
    caption: str,
    which: str,
    last: Sequence[str],
) -> Table:
    """Lay rows out under some of the classes' `names`; the caption says `which` of many they are.

    Columns of other heads come `last`.
    """
    heads = [Markup('<span class="name">{}</span>').format(names[kind]) for kind in shown]
    if len(shown) < len(names):
        caption += f". The {len(shown)} of {number(len(names))} classes {which}"
    return Table([None, *heads, *last], rows, caption, "summary confusion")


def gallery(words: str, shots: Sequence[Shot]) -> list[Any]:
    """Show pictures under a line of words; nothing where there are none."""
    return [Text(words, "small"), Gallery(shots)] if shots else []


def heat(text: str, share: float, kind: str) -> Markup:
    """Shade a cell of a matrix by a share; it is "right" or "wrong"."""
    return Markup('<i class="heat {}" style="--v: {:.3f}">{}</i>').format(kind, share, text)

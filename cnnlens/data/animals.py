"""Pictures of articulated animals on cluttered backgrounds, and where their parts are in them.

Three kinds that differ in one part each: a long neck with horns, a trunk with tusks, a beak. Pose,
size, place, side and colours are drawn anew for every picture, so that neither a colour nor the
place in the picture says where a part is.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from cnnlens.data.cub import MASKS
from cnnlens.data.dataset import new_dataset_folder

KINDS = ("long neck", "trunk", "beak")
PARTS = ("head", "body", "front leg", "back leg", "tail", "mark")  # mark: horns, tusks or beak
_OVER = 4  # drawn larger, then averaged
_NOISE = 6.0  # deviation of the pixels' noise
_SLACK = 0.4  # how far below the limits colours are drawn

Point = tuple[float, float]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Animal:
    """One picture.

    Attributes
    ----------
    pixels : numpy.ndarray
        (size, size, 3) uint8.
    centres : numpy.ndarray
        (P, 2) y and x as shares of the picture's side; NaN outside of it.
    parts : numpy.ndarray
        (size, size) uint8: the number of the part that is seen there, from 1; 0 for none.
    """

    pixels: np.ndarray
    centres: np.ndarray
    parts: np.ndarray


def animal(kind: int | None, random: np.random.Generator, size: int = 64) -> Animal:
    """Draw an animal of a kind, or its background alone.

    Parameters
    ----------
    kind : int or None
        Which of `KINDS`; None: no animal.
    random : numpy.random.Generator
        Decides everything else.
    size : int
        Side of the picture in pixels.
    """
    side = size * _OVER
    image = Image.new("RGB", (side, side), _colour(random, 1.0, 0.4))
    _clutter(random, ImageDraw.Draw(image), side)
    labels = Image.new("L", (side, side), 0)
    centres = np.full((len(PARTS), 2), np.nan)
    if kind is not None:
        centres = _Pose(random, image, labels).draw(kind) / side
        centres[((centres < 0) | (centres > 1)).any(axis=1)] = np.nan
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BOX), np.float32)
    noisy = pixels + random.normal(0, _NOISE, pixels.shape)
    seen = np.asarray(labels.resize((size, size), Image.Resampling.NEAREST))
    return Animal(noisy.clip(0, 255).astype(np.uint8), centres, seen)


def _colour(random: np.random.Generator, lightest: float, palest: float) -> Colour:
    """Any hue, its value and saturation from a range below the given ones."""
    hue = random.uniform(0, 1)
    value = random.uniform(lightest - _SLACK, lightest)
    depth = max(random.uniform(palest - _SLACK, palest), 0)
    r, g, b = (round(255 * v) for v in colorsys.hsv_to_rgb(hue, depth, value))
    return r, g, b


def _near(random: np.random.Generator, *rgb: int) -> Colour:
    r, g, b = (int(np.clip(v + random.integers(-25, 26), 0, 255)) for v in rgb)
    return r, g, b


def _clutter(random: np.random.Generator, pen: ImageDraw.ImageDraw, side: int) -> None:
    for _ in range(int(random.integers(6, 13))):
        x, y = random.uniform(0, side, 2)
        w, h = random.uniform(side * 0.04, side * 0.22, 2)
        box, fill = (x - w, y - h, x + w, y + h), _colour(random, 1.0, 0.6)
        shape = random.integers(3)
        if shape == 0:
            pen.ellipse(box, fill=fill)
        elif shape == 1:
            pen.rectangle(box, fill=fill)
        else:
            pen.line(box, fill=fill, width=max(1, int(side * 0.03)))


class _Pose:
    """An animal's own plane, facing right, its body at (0, 0), and the way into the picture."""

    def __init__(
        self, random: np.random.Generator, image: Image.Image, labels: Image.Image
    ) -> None:
        side = image.width
        self._random = random
        self._pens = ImageDraw.Draw(image), ImageDraw.Draw(labels)
        self._scale = random.uniform(0.8, 1.25) * side
        self._turn, self._face = random.uniform(-0.35, 0.35), random.choice([-1, 1])
        self._origin = np.array([0.5, 0.5]) * side + random.uniform(-0.12, 0.12, 2) * side
        self._coat, self._dark = _colour(random, 0.75, 1.0), _colour(random, 0.6, 1.0)

    def _at(self, x: float, y: float) -> np.ndarray:
        """From the animal's own plane to pixels (x, y)."""
        x = self._face * x
        c, s = math.cos(self._turn), math.sin(self._turn)
        return self._origin + self._scale * np.array([c * x - s * y, s * x + c * y])

    def _dot(self, part: str, at: Point, radius: float, fill: Colour) -> None:
        centre = self._at(*at)
        box = (*(centre - radius * self._scale), *(centre + radius * self._scale))
        for pen, value in self._inks(part, fill):
            pen.ellipse(box, fill=value)

    def _limb(self, part: str, points: Sequence[Point], width: float, fill: Colour) -> None:
        line = [tuple(self._at(*p)) for p in points]
        for pen, value in self._inks(part, fill):
            pen.line(line, fill=value, width=max(1, int(width * self._scale)), joint="curve")

    def _area(self, part: str, points: Sequence[Point], fill: Colour) -> None:
        for pen, value in self._inks(part, fill):
            pen.polygon([tuple(self._at(*p)) for p in points], fill=value)

    def _inks(self, part: str, fill: Colour) -> list[tuple[ImageDraw.ImageDraw, Any]]:
        pixels, labels = self._pens
        return [(pixels, fill), (labels, PARTS.index(part) + 1)]

    def draw(self, kind: int) -> np.ndarray:
        """Draw it all; return the parts' centres (P, 2) in pixels, y before x."""
        random = self._random
        swing = random.uniform(-0.06, 0.06, 4)
        for x, s in zip((0.11, 0.07, -0.11, -0.07), swing, strict=True):
            part = "front leg" if x > 0 else "back leg"
            self._limb(part, [(x, 0.06), (x + s, 0.23)], 0.03, self._dark)
        end = (-0.25, -0.10 + random.uniform(-0.08, 0.08))
        self._limb("tail", [(-0.16, -0.03), end], 0.025, self._dark)
        self._dot("tail", end, 0.025, self._coat)
        for step in np.linspace(-0.1, 0.1, 7):
            self._dot("body", (step, 0.0), 0.085, self._coat)
        head = (0.2 + random.uniform(-0.03, 0.03), -0.1 + random.uniform(-0.04, 0.04))
        head = (head[0], head[1] - 0.12) if kind == 0 else head
        self._limb("head" if kind else "body", [(0.12, -0.03), head], 0.055, self._coat)
        self._dot("head", head, 0.06, self._coat)
        self._dot("head", (head[0] + 0.02, head[1] - 0.015), 0.016, (250, 250, 250))
        self._dot("head", (head[0] + 0.022, head[1] - 0.015), 0.008, (5, 5, 5))
        mark = (self._horns, self._trunk, self._beak)[kind](*head)
        own = [head, (0.0, 0.0), (0.09, 0.17), (-0.09, 0.17), end, mark]
        return np.array([self._at(*p)[::-1] for p in own])

    def _horns(self, x: float, y: float) -> Point:
        brown = _near(self._random, 60, 40, 30)
        for dx in (-0.02, 0.02):
            self._limb("mark", [(x + dx, y - 0.04), (x + dx * 1.6, y - 0.1)], 0.02, brown)
        return x, y - 0.08

    def _trunk(self, x: float, y: float) -> Point:
        self._limb("head", [(x, y), (x + 0.08, y + 0.05), (x + 0.07, y + 0.16)], 0.04, self._coat)
        white = _near(self._random, 230, 230, 220)
        self._limb("mark", [(x + 0.03, y + 0.04), (x + 0.13, y + 0.07)], 0.022, white)
        return x + 0.08, y + 0.055

    def _beak(self, x: float, y: float) -> Point:
        tip = [(x + 0.03, y - 0.035), (x + 0.15, y + 0.01), (x + 0.03, y + 0.035)]
        self._area("mark", tip, _near(self._random, 225, 130, 30))
        return x + 0.07, y


NEGATIVES = "negatives"  # backgrounds, which are no objects
_SHARE = 4  # one background for so many animals


def make_animals(
    out: Path | str,
    images: int = 1500,
    size: int = 64,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    force: bool = False,
) -> Path:
    """Write the set: three kinds in turn, and backgrounds without animals in ``negatives``.

    An object's box is the whole picture, in which it lies anywhere.

    Parameters
    ----------
    out : path
        Folder to make; it lands whole or not at all.
    images : int
        Number of animals; a fourth of that many backgrounds come with them.
    size : int
        Side of the square pictures in pixels.
    seed : int
        Equal seeds give equal bytes.
    progress : callable, optional
        Called with (pictures written, pictures in all).
    force : bool
        Replace an earlier data set in `out`.

    Returns
    -------
    pathlib.Path
        `out`.

    Raises
    ------
    CnnlensError
        When `out` is not empty or cannot be written.
    """
    out, random = Path(out), np.random.default_rng(seed)
    folders = [f"{number:03d}.{kind.replace(' ', '_')}" for number, kind in enumerate(KINDS, 1)]
    total = images + images // _SHARE
    with new_dataset_folder(out, force) as folder:
        inside = [f"{place}/{name}" for name in folders for place in ("images", MASKS)]
        for name in (*inside, NEGATIVES, "parts"):
            (folder / name).mkdir(parents=True)
        lists: dict[str, list[str]] = {name: [] for name in _LISTS}
        for number in range(total):
            if number < images:
                _write_one(folder, number, folders, random, size, lists)
            else:
                found = animal(None, random, size)
                path = folder / NEGATIVES / f"{number - images:05d}.png"
                Image.fromarray(found.pixels).save(path, compress_level=1)
            if progress is not None:
                progress(number + 1, total)
        lists["classes.txt"] = [f"{n} {name}" for n, name in enumerate(folders, 1)]
        lists["parts/parts.txt"] = [f"{n} {name}" for n, name in enumerate(PARTS, 1)]
        for name, lines in lists.items():
            (folder / name).write_text("\n".join(lines) + "\n")
    return out


_LISTS = ("images.txt", "image_class_labels.txt", "bounding_boxes.txt", "parts/part_locs.txt")


def _write_one(
    folder: Path,
    number: int,
    folders: list[str],
    random: np.random.Generator,
    size: int,
    lists: dict[str, list[str]],
) -> None:
    kind = number % len(KINDS)
    found, name = animal(kind, random, size), f"{folders[kind]}/{number:05d}.png"
    Image.fromarray(found.pixels).save(folder / "images" / name, compress_level=1)
    Image.fromarray(found.parts).save(folder / MASKS / name)
    images, labels, boxes, places = (lists[key] for key in _LISTS)
    images.append(f"{number + 1} {name}")
    labels.append(f"{number + 1} {kind + 1}")
    boxes.append(f"{number + 1} 0.0 0.0 {size}.0 {size}.0")
    for part, (y, x) in enumerate(found.centres * size, 1):
        shown = "0.0 0.0 0" if np.isnan(y) else f"{x:.2f} {y:.2f} 1"
        places.append(f"{number + 1} {part} {shown}")

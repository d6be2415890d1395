"""Random worlds of labels and activations, also written to disk in Broden's layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cnnlens.data.broden import Broden, open_broden
from cnnlens.progress import Step

from ..reference.dissect import Picture, World

CATEGORIES = ["object", "part", "material", "scene", "texture", "rare"]
DECLARED = {
    1: ["object"],
    2: ["object", "material"],  # two concepts, or one when pooled
    3: ["part"],
    4: ["part"],
    7: ["material", "object"],
    300: ["scene"],
    301: ["scene"],
    302: ["texture"],
    65000: ["rare"],
}
HOME = {1: "object", 2: "material", 3: "part", 4: "part", 7: "object"}
HOME |= {300: "scene", 301: "scene", 302: "texture", 65000: "rare"}
SIZES = [(16, 16), (9, 23), (5, 4), (1, 1), (24, 7)]


def random_world(rng: np.random.Generator, images: int) -> World:
    return World(CATEGORIES, DECLARED, HOME, [_picture(rng, n) for n in range(images)])


def _picture(rng: np.random.Generator, number: int) -> Picture:
    size = SIZES[int(rng.integers(len(SIZES)))]
    cells: dict = {c: [] for c in CATEGORIES}
    if rng.random() < 0.8:
        cells["object"] = [_plane(rng, size, [0, 1, 2, 7])]
    if rng.random() < 0.6:  # several planes that may say the same twice
        cells["part"] = [_plane(rng, size, [0, 0, 3, 4]) for _ in range(int(rng.integers(1, 5)))]
    if rng.random() < 0.5:  # a plane and a number in one cell
        cells["material"] = [_plane(rng, size, [0, 2, 2, 7]), 7][: int(rng.integers(1, 3))]
    if rng.random() < 0.5:
        cells["scene"] = [300] if rng.random() < 0.5 else [300, 301]
    if rng.random() < 0.3:
        cells["texture"] = [302]
    if number == 1:
        cells["rare"] = [65000]
    if number == 2:  # carries the category, and shows nothing of it
        cells["rare"] = [np.zeros(size, int)]
    if number == 3:
        cells = {c: [] for c in CATEGORIES}  # an image without any label
    return Picture(size, cells)


def _plane(rng: np.random.Generator, size: tuple[int, int], numbers: list[int]) -> np.ndarray:
    coarse = rng.choice(numbers, (-(-size[0] // 3), -(-size[1] // 3)))
    return np.kron(coarse, np.ones((3, 3), int))[: size[0], : size[1]]


def write_world(world: World, root: Path) -> Broden:
    """Write a world in Broden's layout and open it."""
    (root / "images").mkdir(parents=True)
    rows = ["image,split,ih,iw,sh,sw," + ",".join(world.categories)]
    for number, picture in enumerate(world.pictures):
        h, w = picture.size
        Image.new("RGB", (4, 4)).save(root / "images" / f"{number}.png")
        cells = [_cell(root, number, c, picture.cells.get(c, [])) for c in world.categories]
        rows.append(f"{number}.png,train,4,4,{h},{w}," + ",".join(cells))
    (root / "index.csv").write_text("\n".join(rows) + "\n")
    labels = ["number,name,category,frequency,coverage,syns"]
    for number, names in world.declared.items():
        counted = ";".join(f"{c}({9 if c == world.home[number] else 2})" for c in names)
        labels.append(f"{number},label {number},{counted},1,1,")
    (root / "label.csv").write_text("\n".join(labels) + "\n")
    return open_broden(root)


def _cell(root: Path, number: int, category: str, items: Sequence) -> str:
    said = []
    for place, item in enumerate(items):
        if isinstance(item, np.ndarray):
            rgb = np.stack([item % 256, item // 256, np.zeros_like(item)], -1).astype(np.uint8)
            said.append(f"{number}_{category}_{place}.png")
            Image.fromarray(rgb).save(root / "images" / said[-1])
        else:
            said.append(str(item))
    return ";".join(said)


class ArraySource:
    """Activations that stand in arrays, shown in batches of any size."""

    def __init__(self, layers: Sequence[np.ndarray], batch: int, positions: Sequence[int]) -> None:
        self.layers, self.batch = layers, batch
        self.positions = np.array(positions, np.int64)
        self.limits = [len(maps) for maps in layers]
        self.shapes = [maps.shape[1:] for maps in layers]

    def sweep(self, observers: Sequence) -> Iterator[Step]:
        for maps, observe in zip(self.layers, observers, strict=True):
            for start in range(0, len(maps), self.batch):
                stop = start + self.batch
                observe(self.positions[start:stop], np.ascontiguousarray(maps[start:stop]))
                yield Step(min(stop, len(maps)), len(maps))

"""Broden's layout written: label planes as PNG, and the tables that name and count labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from cnnlens.files import write_csv

Cells = dict[str, list[np.ndarray | int]]  # per category: planes and whole-image numbers
Numbers = Mapping[str, Mapping[int, str]]  # per category: label names by number


def save_plane(path: Path, numbers: np.ndarray) -> None:
    """Write label numbers (sh, sw), at most 65535, as a PNG whose pixels are R + 256·G."""
    rgb = np.stack([numbers & 255, numbers >> 8, np.zeros_like(numbers)], axis=-1)  # (sh, sw, 3)
    Image.fromarray(rgb.astype(np.uint8)).save(path, compress_level=1)


def shares(cells: Cells) -> dict[int, float]:
    """Give the labels of one image, and how much of it each covers."""
    found: dict[int, float] = {}
    for item in (item for items in cells.values() for item in items):
        if isinstance(item, int):
            found[item] = 1.0
            continue
        counts = np.bincount(item.ravel())
        for number in np.flatnonzero(counts[1:]) + 1:
            found[int(number)] = int(counts[number]) / item.size
    return found


class Tally:
    """In how many images a label occurs, and how many of them it would cover, for the tables."""

    def __init__(self) -> None:
        self.frequency: dict[int, int] = defaultdict(int)
        self.coverage: dict[int, float] = defaultdict(float)

    def add(self, found: Mapping[int, float]) -> None:
        """Count the labels of one image."""
        for number, share in found.items():
            self.frequency[number] += 1
            self.coverage[number] += share

    def write(self, folder: Path, numbers: Numbers) -> None:
        """Write ``label.csv``, ``category.csv`` and a ``c_<category>.csv`` each."""
        labels, categories = [], []
        for category, names in numbers.items():
            rows = [
                [number, name, self.frequency[number], f"{self.coverage[number]:.6f}"]
                for number, name in names.items()
            ]
            write_csv(
                folder / f"c_{category}.csv",
                ["code", "number", "name", "frequency", "coverage"],
                [[code, *row] for code, row in enumerate(rows, 1)],
            )
            labels += [[n, name, f"{category}({f})", f, cover, ""] for n, name, f, cover in rows]
            total = sum(self.frequency[number] for number in names)
            categories.append([category, min(names), max(names), len(names), total])
        write_csv(
            folder / "label.csv",
            ["number", "name", "category", "frequency", "coverage", "syns"],
            labels,
        )
        write_csv(
            folder / "category.csv", ["name", "first", "last", "count", "frequency"], categories
        )

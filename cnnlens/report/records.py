"""What the report knows of a dissected layer: the rows and arrays of its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Best:
    """A unit's best concept, overall or within one category."""

    label: str
    category: str
    iou: float


@dataclass(frozen=True)
class Unit:
    """One row of ``units.csv``; the numbers are those of the file, digit by digit."""

    unit: int
    threshold: float | None
    best: Best
    is_detector: bool
    p_value: float | None
    by_category: tuple[Best, ...]


@dataclass(frozen=True)
class Concept:
    """One row of ``concepts.csv``."""

    label: str
    category: str
    pixels: int | None
    images: int | None
    best_unit: int | None
    best_iou: float | None


@dataclass(frozen=True)
class TopImage:
    """One row of ``top.csv``: an image that excites a unit, and its peak activation."""

    image: str
    peak: float | None


@dataclass(frozen=True)
class Histogram:
    """A unit's activations: counts per bin and the bins' edges, one more than counts."""

    counts: np.ndarray
    edges: np.ndarray


@dataclass(frozen=True)
class Layer:
    """Everything dissect wrote about one layer.

    Attributes
    ----------
    name : str
        The layer as it was typed.
    folder : pathlib.Path
        ``WORKSPACE/dissect/<layer>``.
    summary : dict
        ``summary.json``.
    categories : list of str
        In the data's order.
    units, concepts : list
        Rows of ``units.csv`` and ``concepts.csv``.
    iou : numpy.ndarray or None
        (units, concepts) float32, rows and columns in the order of `units` and `concepts`.
    top : dict of int to list of TopImage
        By unit, best first.
    histograms : dict of int to Histogram
        By unit.
    pictures : dict of int to pathlib.Path
        Strips of top images by unit.
    """

    name: str
    folder: Path
    summary: dict[str, Any]
    categories: list[str]
    units: list[Unit]
    concepts: list[Concept]
    iou: np.ndarray | None
    top: dict[int, list[TopImage]]
    histograms: dict[int, Histogram]
    pictures: dict[int, Path]

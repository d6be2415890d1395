"""``WORKSPACE/net2vec/<layer>``: its files, written and read back.

concepts.csv, curves.csv, weights.h5, top.csv, summary.json, pictures/. ``weights.h5`` holds what
belongs to a combination: ``weights`` and ``direction`` (concepts × units), ``bias``, ``cut``,
``iou_at_half``, ``chance_iou``, ``of_pixels``, ``learned_on`` (per concept), ``threshold`` (per
unit).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from cnnlens.data.picture_names import fitting
from cnnlens.errors import CnnlensError, UsageError, did_you_mean, first_of
from cnnlens.files.tables import columns, read_rows, write_rows
from cnnlens.measure.embeddings import CurvePoint, Embedded, Embeddings
from cnnlens.model.layer import file_name
from cnnlens.report.contents import read_layers, read_summary, reading, write_scales
from cnnlens.report.shown import Fact, LayerResult, Picture, Shown

_REDO = "redo `cnnlens net2vec` with --force"
_PER_CONCEPT = ("cut", "iou_at_half", "chance_iou", "of_pixels", "learned_on")


@dataclass(frozen=True)
class TopOfConcept:
    """An image on which a combination is high, its logit there, whether it shows the concept."""

    label: str
    category: str
    rank: int
    image: str
    logit: float | None
    shows: bool


@dataclass(frozen=True, eq=False)
class ConceptResult(Embedded, Shown):
    """One row of ``concepts.csv``, and what else is known of the concept.

    Attributes
    ----------
    of_pixels : bool
        Told pixel by pixel; else image by image.
    learned_on : int
        Images that it was learned from.
    cut : float
        The logit above which a pixel or an image counts.
    iou_at_half, chance_iou : float or None
        Of the mask above a probability of one half; from shuffled label maps.
    curve : list of (int, float or None)
        IoU by the number of units.
    top : tuple of TopOfConcept
        Where the combination is highest, in the validation split.
    picture : pathlib.Path or None
        These images side by side, under the mask.
    """

    of_pixels: bool = True
    learned_on: int = 0
    cut: float = 0.0
    iou_at_half: float | None = None
    chance_iou: float | None = None
    curve: Sequence[tuple[int, float | None]] = ()
    top: tuple[TopOfConcept, ...] = ()
    picture: Path | None = None

    @property
    def name(self) -> str:
        """``category:label``, as ``-f LAYER:[category:label]`` takes it."""
        return f"{self.category}:{self.label}"

    def table(self) -> list[dict[str, Any]]:
        """Give its row of ``concepts.csv``."""
        return [{name: getattr(self, name) for name in columns(Embedded)}]

    def _title(self) -> str:
        return f"{self.label} ({self.category})"

    def _facts(self) -> Iterable[Fact]:
        chance = "" if self.chance_iou is None else f"{self.chance_iou:.3f}"
        yield "combination", "–" if self.iou is None else f"{self.iou:.3f}", chance
        if self.best_unit is not None and self.best_unit_iou is not None:
            yield "best unit", f"{self.best_unit} ({self.best_unit_iou:.3f})", ""

    def _shots(self) -> Iterable[tuple[str, Picture]]:
        return [("", self.picture)] if self.picture else []


@dataclass(frozen=True, eq=False)
class Net2VecResult(LayerResult):
    """Everything net2vec found on one layer; ``found["part:hair"]`` is one concept.

    Attributes
    ----------
    concepts : list of ConceptResult
        Rows of ``concepts.csv``.
    weights, direction : numpy.ndarray
        (concepts, units) float32: of binary maps or standardized means; of activations as they are.
    thresholds : numpy.ndarray
        (units,) float32.
    """

    concepts: list[ConceptResult]
    weights: np.ndarray
    direction: np.ndarray
    thresholds: np.ndarray

    def __len__(self) -> int:
        return len(self.concepts)

    def __iter__(self) -> Iterator[ConceptResult]:
        return iter(self.concepts)

    def __getitem__(self, name: str) -> ConceptResult:
        """Look a concept up by ``category:label``, or by a label that one category has."""
        return self.concepts[self.index(name)]

    def index(self, name: str) -> int:
        """Say in which row a concept is.

        Raises
        ------
        UsageError
            When it is in none, or only its label is named and several categories have it.
        """
        names = [concept.name for concept in self.concepts]
        found = [k for k, full in enumerate(names) if name == full]
        found = found or [k for k, one in enumerate(self.concepts) if name == one.label]
        if len(found) > 1:
            several = " and ".join(names[k] for k in found)
            raise UsageError(f"'{name}' is ambiguous in {self.name}", f"there are {several}")
        if not found:
            known = did_you_mean(str(name), names) or f"there are {first_of(names, 8)}"
            raise UsageError(f"net2vec has learned no concept '{name}' in {self.name}", known)
        return found[0]

    def best(self, count: int | None = None) -> list[ConceptResult]:
        """List the concepts of largest gain; those without an image to validate on come last."""

        def gain(concept: ConceptResult) -> float:
            return float("inf") if concept.gain is None else -concept.gain

        return sorted(self.concepts, key=gain)[:count]

    def table(self) -> list[dict[str, Any]]:
        """Give one row per concept, the columns of ``concepts.csv``."""
        return [row for concept in self.concepts for row in concept.table()]

    def _title(self) -> str:
        return f"Concepts as combinations of the units of {self.name}"

    def _facts(self) -> Iterable[Fact]:
        yield "concepts", str(len(self)), ""
        yield "better than the best unit", f"{self.summary.get('better')}", ""
        for key in ("mean_iou", "mean_best_unit_iou"):
            value = self.summary.get(key)
            by_chance = self.summary.get("chance_iou") if key == "mean_iou" else None
            said = "" if by_chance is None else f"{by_chance:.4f}"
            yield key.replace("_", " "), "–" if value is None else f"{value:.4f}", said

    def _shots(self) -> Iterable[tuple[str, Picture]]:
        return [(one.name, one.picture) for one in self.best(12)]

    def _within(self) -> Iterable[Shown]:
        return self.concepts


# -- reading -------------------------------------------------------------------------------------


def read_all_net2vec(workspace: Path) -> list[Net2VecResult]:
    """Read every layer whose concepts were learned, in the workspace's order."""
    return read_layers(workspace, "net2vec", read_net2vec)


def read_net2vec(folder: Path) -> Net2VecResult:
    """Read the files of one layer; a damaged file is named (`CnnlensError`)."""
    name, summary = read_summary(folder, _REDO)
    arrays = _read_arrays(folder / "weights.h5")
    rows = read_rows(folder / "concepts.csv", Embedded, _REDO)
    points = _by_concept(folder / "curves.csv", CurvePoint)
    top = _by_concept(folder / "top.csv", TopOfConcept)
    if len(rows) != len(arrays["weights"]):
        raise CnnlensError(f"{folder / 'concepts.csv'} does not fit weights.h5", _REDO)
    concepts = []
    for k, row in enumerate(rows):
        picture, key = folder / "pictures" / f"{k}.webp", (row.label, row.category)
        about = {name: arrays[name][k].item() for name in _PER_CONCEPT}
        about |= {name: None for name, value in about.items() if value != value}  # NaN
        concepts.append(
            ConceptResult(
                **vars(row), **about,
                curve=[(point.filters, point.iou) for point in points.get(key, ())],
                top=tuple(top.get(key, ())),
                picture=picture if picture.is_file() else None,
            )
        )  # fmt: skip
    return Net2VecResult(
        name, folder, summary, concepts,
        arrays["weights"], arrays["direction"], arrays["threshold"],
    )  # fmt: skip


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    with reading(path, _REDO), h5py.File(path, "r") as file:
        return {
            name: file[name][()] for name in ("weights", "direction", "threshold", *_PER_CONCEPT)
        }


def _by_concept(path: Path, kind: type[Any]) -> dict[tuple[str, str], list[Any]]:
    """Read a table that may be missing, by label and category."""
    found: dict[tuple[str, str], list[Any]] = {}
    for row in read_rows(path, kind, _REDO, may_miss=True):
        found.setdefault((row.label, row.category), []).append(row)
    return found


class Direction(NamedTuple):
    """What a concept is in a layer's activations.

    Attributes
    ----------
    name, file : str
        ``category:label``, and as a file's name.
    vector : numpy.ndarray
        (C,) float32, of length 1.
    """

    name: str
    file: str
    vector: np.ndarray


def read_direction(workspace: Path, layer: str, name: str, model: str) -> Direction:
    """Find the direction of a concept that was learned.

    Parameters
    ----------
    workspace : pathlib.Path
        Whose ``net2vec`` results.
    layer : str
        The layer, as its folder is called.
    name : str
        ``category:label``, or a label that one category has.
    model : str
        The network's fingerprint.

    Raises
    ------
    UsageError
        When the layer's concepts were not learned of this network, or this one is none of them.
    CnnlensError
        When a file is damaged, or the concept's weights are all 0.
    """
    folder = workspace / "net2vec" / file_name(layer)
    there = (folder / "summary.json").exists()
    found = read_net2vec(folder) if there else None
    if found is None or (found.summary.get("made_from") or {}).get("model") != model:
        raise UsageError(
            f"'[{name}]' is a concept, and those of {layer} were not learned "
            + ("of this model" if there else "yet"),
            f"cnnlens net2vec -d DIR -l {layer} learns them",
        )
    row = found.index(name)
    full, vector = found.concepts[row].name, found.direction[row].astype(np.float64)
    length = float(np.linalg.norm(vector))
    if not length > 0:
        raise CnnlensError(f"no unit of {layer} has a weight for {full}", "name another concept")
    file = f"concept-{file_name(full)}"
    if [file_name(concept.name) for concept in found.concepts].count(file_name(full)) > 1:
        file = f"{file}-{row}"  # other concepts' names look the same
    return Direction(full, fitting(file), (vector / length).astype(np.float32))


# -- writing -------------------------------------------------------------------------------------


def write_tables(folder: Path, found: Embeddings, paths: Sequence[str]) -> None:
    """Write concepts.csv, curves.csv, weights.h5 and top.csv of one layer; `paths` are all images
    in the data's order.
    """
    write_rows(folder / "concepts.csv", columns(Embedded), [vars(row) for row in found.rows()])
    points = [vars(point) for point in found.points()]
    write_rows(folder / "curves.csv", columns(CurvePoint), points)
    if found.top is not None:
        write_rows(folder / "top.csv", columns(TopOfConcept), _top(found, paths))
    unknown = np.where(found.compared, 0, np.nan)
    arrays = {
        "weights": found.weights, "direction": found.direction, "bias": found.bias,
        "cut": found.cut, "iou_at_half": found.iou_at_half + unknown,
        "chance_iou": found.by_chance + unknown, "of_pixels": found.of_pixels,
        "learned_on": found.learned_on, "threshold": found.thresholds,
    }  # fmt: skip
    names = [f"{concept.category}:{concept.label}" for concept in found.concepts]
    with h5py.File(folder / "weights.h5", "w", libver=("v110", "v110"), track_order=True) as file:
        for name, array in arrays.items():
            file[name] = array
        file.create_dataset("concept", data=names, dtype=h5py.string_dtype())
        file["unit"] = np.arange(found.weights.shape[1])
        write_scales(file, ("concept", "unit"), ("weights", "direction"))


def _top(found: Embeddings, paths: Sequence[str]) -> list[dict[str, Any]]:
    assert found.top is not None and found.top_shows is not None
    rows = []
    for k, concept in enumerate(found.concepts):
        for rank, position in enumerate(found.top.positions[k].tolist()):
            if position >= 0:
                logit = float(found.top.peaks[k, rank])
                about = concept.label, concept.category, rank, paths[position], logit
                rows.append(vars(TopOfConcept(*about, bool(found.top_shows[k, rank]))))
    return rows

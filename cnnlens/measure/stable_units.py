"""What stability finds of a layer: arrays over its units, and what follows: rows and a summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from cnnlens.data.parts import Fault
from cnnlens.measure.part_measures import FEWEST, PartInterpretability
from cnnlens.settings import StabilitySettings


@dataclass(frozen=True)
class Stability:
    """What was found on one layer; NaN throughout for dead units.

    Attributes
    ----------
    settings : StabilitySettings
        What was asked for.
    names : list of str
        Categories.
    parts : tuple of str
        Names.
    unmeasured : list of str
        Categories on which no part is shown often enough.
    images : int
        Objects that were measured.
    category : numpy.ndarray
        (C,) int64, each unit's; of dead units too.
    dead : numpy.ndarray
        (C,) bool: never above 0 on an image of its category.
    instability, p_value, centre_distance, selectivity : numpy.ndarray
        (C,); the second is the share of shuffles, among the images that excite the unit, that are
        as steady, the third in shares of the diagonal, the last the area under the ROC curve of
        the peaks, NaN with one category.
    deviations : numpy.ndarray
        (C, P) instability per part.
    uniform, centre, shuffled : float
        Mean instability over units of the three baselines.
    selectivity_chance : float
        Mean selectivity with categories shuffled among the images, and chosen again; NaN as that.
    associations : tuple of PartInterpretability
        At both quantiles; empty where the data has no masks.
    scores, places : numpy.ndarray
        (N, C) float32 and (N, C, 2) float32: how high and where each unit peaks, the latter y and
        x in shares of the input.
    seen, labels : numpy.ndarray
        (N,) int64, positions of those objects in the data, and their categories.
    left_out : tuple of Fault
        What is wrong with objects of the data, which were left out.
    skipped : tuple of (path, reason)
        Objects that could be read and not measured: none.
    """

    settings: StabilitySettings
    names: list[str]
    parts: tuple[str, ...]
    unmeasured: list[str]
    images: int
    category: np.ndarray
    dead: np.ndarray
    instability: np.ndarray
    p_value: np.ndarray
    centre_distance: np.ndarray
    selectivity: np.ndarray
    deviations: np.ndarray
    uniform: float
    centre: float
    shuffled: float
    selectivity_chance: float
    associations: tuple[PartInterpretability, ...]
    scores: np.ndarray
    places: np.ndarray
    seen: np.ndarray
    labels: np.ndarray
    left_out: tuple[Fault, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def units(self) -> int:
        """C."""
        return len(self.category)

    def interpretability(self, which: int = 0) -> np.ndarray:
        """(C,) P_f at the `which`-th quantile; NaN without masks."""
        if which >= len(self.associations):
            return np.full(self.units, np.nan)
        return self.associations[which].best(self.associations[which].by_part)

    def best_part(self, unit: int) -> int | None:
        """Find the part a mask is most often, else the one it follows steadiest; None: dead."""
        if self.dead[unit]:
            return None
        if self.associations:
            shares = self.associations[0].by_part[unit]
            if np.nanmax(np.nan_to_num(shares)) > 0:
                return int(np.nanargmax(shares))
        return int(np.nanargmin(self.deviations[unit]))

    def rows(self) -> Iterator[UnitStability]:
        """Give what was measured of each unit."""
        first, wide = self.interpretability(0), self.interpretability(1)
        for unit in range(self.units):
            part = self.best_part(unit)
            names = [f"{name}_deviation" for name in self.parts]
            more = dict(zip(names, self.deviations[unit], strict=True))
            if len(self.associations) > 1:
                more["part_interpretability_wide"] = wide[unit]
            yield UnitStability(
                unit=unit,
                category=self.names[self.category[unit]],
                location_instability=_known(self.instability[unit]),
                p_value=_known(self.p_value[unit]),
                centre_distance=_known(self.centre_distance[unit]),
                selectivity=_known(self.selectivity[unit]),
                part="" if part is None else self.parts[part],
                part_interpretability=_known(first[unit]),
                more={name: _known(value) for name, value in more.items()},
            )

    @property
    def notes(self) -> list[str]:
        """What a reader has to know of categories."""
        few = f"no part is shown on {FEWEST} of its images: no unit's own"
        return [f"{name}: {few}" for name in self.unmeasured]

    def summary(self) -> dict[str, Any]:
        """Put the findings into one document, as ``summary.json`` and ``--json`` give them."""
        alive = int((~self.dead).sum())
        steadier = {"units": int((self.p_value < 0.05).sum()), "of": alive, "level": 0.05}
        return {
            "units": self.units,
            "dead_units": int(self.dead.sum()),
            "images": self.images,
            "location_instability": _mean(self.instability),
            "part_interpretability": _mean(self.interpretability()),
            "selectivity": _mean(self.selectivity),
            "selectivity_chance": _known(self.selectivity_chance),
            "centre_distance": _mean(self.centre_distance),
            "baselines": {
                name: _known(getattr(self, name)) for name in ("uniform", "centre", "shuffled")
            },
            "steadier_than_shuffled": {**steadier, "by_chance": 0.05 * alive},
            "interpretability": [
                {
                    "quantile": one.quantile,
                    "part_interpretability": _mean(one.best(one.by_part)),
                    "bound": _mean(one.best(one.bound)),
                    "chance": _mean(one.best(one.chance)),
                }
                for one in self.associations
            ],
            "categories": self.names,
            "unmeasured_categories": self.unmeasured,
            "parts": list(self._parts()),
            "settings": self.settings.as_dict(),
            "left_out": [asdict(fault) for fault in self.left_out],
        }

    def _parts(self) -> Iterator[dict[str, Any]]:
        best = [self.best_part(unit) for unit in range(self.units)]
        for number, name in enumerate(self.parts):
            deviation = _mean(self.deviations[:, number])
            yield {"name": name, "deviation": deviation, "units": best.count(number)}


@dataclass(frozen=True, eq=False)
class UnitStability:
    """What was measured of a unit, None where it was not.

    Attributes
    ----------
    unit : int
        Counted from 0.
    category : str
        The category that it was measured on.
    location_instability, p_value, centre_distance, selectivity, part_interpretability
        See `Stability`.
    part : str
        The part that its mask is most often, or that it follows steadiest; empty where dead.
    more : mapping of str to float or None
        ``<part>_deviation`` of each part, and ``part_interpretability_wide``.
    """

    unit: int
    category: str
    location_instability: float | None
    p_value: float | None
    centre_distance: float | None
    selectivity: float | None
    part: str
    part_interpretability: float | None
    more: Mapping[str, float | None] = field(default_factory=dict)


# -- layers beside each other --------------------------------------------------------------------

LAYER_COLUMNS = (
    "layer", "instability", "shuffled", "uniform", "centre", "selectivity", "centre distance",
    "dead", "units",
)  # fmt: skip
MASK_COLUMNS = ("layer", "quantile", "part interpretability", "by chance", "at most")


def layer_row(summary: Mapping[str, Any]) -> list[object]:
    """Give a layer's row under `LAYER_COLUMNS`, from its summary."""
    base, layer = summary["baselines"], summary["layer"]
    chance = (_round(base[name]) for name in ("shuffled", "uniform", "centre"))
    away, selective = _round(summary["centre_distance"]), _round(summary["selectivity"], 3)
    steady = _round(summary["location_instability"])
    return [layer, steady, *chance, selective, away, summary["dead_units"], summary["units"]]


def mask_rows(summary: Mapping[str, Any]) -> list[list[object]]:
    """Give a layer's rows under `MASK_COLUMNS`, one per quantile; none without masks."""
    masks = ("quantile", "part_interpretability", "chance", "bound")
    found = summary["interpretability"]
    return [[summary["layer"], *(_round(one[key]) for key in masks)] for one in found]


def _round(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(value, digits)


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _mean(values: np.ndarray) -> float | None:
    """Mean of what is known; None where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None

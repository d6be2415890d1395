"""What of networks is compared: each quantity with its meaning, its better direction, its chance.

A number alone does not say which network is better: which way is better, what chance gives, and
what one gets without having learned (peaks at the centre, raw pixels) stand with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

import numpy as np

from cnnlens.measure.comparison import (
    Estimate,
    Summary,
    chance_apart,
    count,
    difference,
    distinct,
    mean,
    proportion,
)
from cnnlens.settings import CompareSettings

Keys = tuple[str | int, ...]  # that lead to a number in a summary
HIGHER, LOWER = "higher", "lower"


@dataclass(frozen=True)
class Quantity:
    """A row of the comparison."""

    #: key, title: in JSON, and on the page
    key: str
    title: str
    digits: int  #: decimals that are shown
    meaning: str = ""  #: in a few words
    better: str = ""  #: `HIGHER` or `LOWER`; empty: neither
    #: where a summary says what chance gives: the first that is there
    chance: tuple[Keys, ...] = ()
    #: another level to hold it against: its name, and where a summary says it
    beside: tuple[str, Keys] | None = None
    #: whose results it is taken from: the first there is
    commands: tuple[str, ...] = ("stability",)
    #: of a result: the statistic, or None where it was not measured; left out: the column's mean
    estimate: Callable[[Any, CompareSettings], Estimate | None] | None = None
    counts: bool = False  #: whether it grows with the number of units

    def compare(
        self, rows: Sequence[Mapping[str, Any]], settings: CompareSettings
    ) -> dict[str, list[Any]]:
        """Hold one layer of some networks against the first's.

        Parameters
        ----------
        rows : sequence of mapping of str to result
            What commands found, network by network.
        settings : CompareSettings
            Resamples, level, seed.

        Returns
        -------
        dict
            ``values``, one entry per network, and ``differences`` of the others to the first. An
            entry has ``value, chance, interval, units``, a value ``beside`` too: another level, by
            its name. None where nothing was measured, an interval where there is none. The
            ``chance`` of a difference is by how much chance differs; None where it does not.
        """
        found: list[Any] = [next((row[c] for c in self.commands if c in row), None) for row in rows]
        estimates = [None if one is None else self._estimate(one, settings) for one in found]
        levels = [None if one is None else self._chance(one.summary) for one in found]
        first, *others = estimates
        return {
            "values": [
                e and {**_entry(e, level), "beside": self._level(one.summary)}
                for e, level, one in zip(estimates, levels, found, strict=True)
            ],
            "differences": [
                first and e and _entry(difference(first, e, settings), chance_apart(levels[0], at))
                for e, at in zip(others, levels[1:], strict=True)
            ],
        }

    def _estimate(self, found: Any, settings: CompareSettings) -> Estimate | None:
        if self.estimate is None:
            return mean(found.column(self.key), settings)
        return self.estimate(found, settings)

    def _chance(self, summary: Summary) -> float | None:
        return number_at(summary, *self.chance)

    def _level(self, summary: Summary) -> dict[str, float]:
        if self.beside is None:
            return {}
        name, keys = self.beside
        level = number_at(summary, keys)
        return {} if level is None else {name: level}


def _entry(estimate: Estimate, chance: float | None) -> dict[str, Any]:
    interval = [estimate.low, estimate.high] if isfinite(estimate.low) else None
    value = {"value": estimate.value, "chance": chance}
    return {**value, "interval": interval, "units": estimate.units}


def number_at(summary: Summary, *paths: Keys) -> float | None:
    """Look a number up: at the first of some paths of keys that leads to one; else None."""
    for path in paths:
        value: Any = summary
        try:
            for key in path:
                value = value[key]
        except (LookupError, TypeError):
            continue
        if isinstance(value, (int, float)):
            return float(value) if isfinite(value) and not isinstance(value, bool) else None
    return None


# -- of a dissection and of stability ------------------------------------------------------------


def _codes(found: Any) -> np.ndarray:
    """(C,) a number per distinct concept, -1 for units that are no detectors."""
    codes: dict[tuple[str, str], int] = {}
    return np.array(
        [
            codes.setdefault((u.label, u.category), len(codes)) if u.is_detector else -1
            for u in found.units
        ]
    )


def _dead(found: Any, settings: CompareSettings) -> Estimate | None:
    dead = number_at(found.summary, ("dead_units",))
    return None if dead is None else count(np.arange(len(found)) < dead, settings)


def _passing(method: str) -> Callable[[Any, CompareSettings], Estimate | None]:
    """Read the share of a method's labels that pass their exam."""

    def read(found: Any, settings: CompareSettings) -> Estimate | None:
        passes = [one.passes for one in found.of(method)]
        return proportion(sum(passes), len(passes), settings) if passes else None

    return read


# -- of clusters ---------------------------------------------------------------------------------


def _bare(*keys: str | int) -> Callable[[Any, CompareSettings], Estimate | None]:
    """Read one number of a layer, which has no interval."""

    def read(found: Any, settings: CompareSettings) -> Estimate | None:
        value, images = number_at(found.summary, keys), number_at(found.summary, (keys[0], IMAGES))
        return None if value is None else Estimate(value, nan, nan, int(images or 0))

    return read


def _shared(*keys: str | int) -> Callable[[Any, CompareSettings], Estimate | None]:
    """Read a share of the images, with Wilson's interval."""

    def read(found: Any, settings: CompareSettings) -> Estimate | None:
        value, images = number_at(found.summary, keys), number_at(found.summary, (keys[0], IMAGES))
        if value is None or not images:
            return None
        return proportion(round(value * images), int(images), settings)

    return read


IMAGES = "images"
_NULL = ("baselines", "shuffled")  # one number, that of the instability, or one for each measure
_LAYER, _PIXELS = ("embed", "layer", "vectors"), ("embed", "pixels", "vectors")
QUANTITIES = (
    Quantity(
        "detectors", "Detectors", 0,
        "units whose mask overlaps one concept well enough (IoU)", HIGHER,
        (("chance", "detectors"),), commands=("dissect",), counts=True,
        estimate=lambda found, s: count(found.is_detector, s),
    ),
    Quantity(
        "unique_detectors", "Unique detectors", 0,
        "different concepts among these detectors", HIGHER,
        (("chance", "unique_detectors"),), commands=("dissect",), counts=True,
        estimate=lambda found, s: distinct(_codes(found), s),
    ),
    Quantity(
        "mean_iou", "Mean best IoU", 4,
        "overlap of a unit’s mask with its best concept, 0 to 1", HIGHER,
        (("chance", "mean_iou"),), commands=("dissect",),
        estimate=lambda found, s: mean(found.iou, s),
    ),
    *(
        Quantity(
            f"exam_{method}", f"True labels, of {words}", 3,
            "share of labels that pass their exam, on images that chose nothing", HIGHER,
            (("methods", method, "share_by_chance"),),
            beside=("random weights", ("methods", method, "twin", "share")),
            commands=("exam",), estimate=_passing(method),
        )
        for method, words in (("dissect", "label maps"), ("classes", "classes"), ("text", "words"))
    ),
    Quantity(
        "location_instability", "Location instability", 4,
        "how much a unit’s place on the object varies, in shares of the diagonal", LOWER,
        ((*_NULL, "location_instability"), _NULL), beside=("centre", ("baselines", "centre")),
    ),
    Quantity(
        "part_interpretability", "Part interpretability", 4,
        "share of objects on which a unit’s mask is its best part", HIGHER,
        (("interpretability", 0, "chance"), (*_NULL, "part_interpretability")),
    ),
    Quantity(
        "selectivity", "Selectivity", 3,
        "how well a unit’s peak tells its class from the others (area under the ROC curve)",
        HIGHER, (("selectivity_chance",),),
    ),
    Quantity(
        "centre_distance", "Peaks’ distance from the centre", 4,
        "small for units that fire in the middle, whatever is there", "",
        ((*_NULL, "centre_distance"),),
    ),
    Quantity(
        "dead_units", "Dead units", 0, "units that never fire on these images", LOWER,
        commands=("stability", "dissect"), counts=True, estimate=_dead,
    ),
    Quantity(
        "neighbour_accuracy", "Neighbour accuracy", 3,
        "share of images whose nearest neighbours are mostly of their own class", HIGHER,
        ((*_LAYER, "chance"),), beside=("raw pixels", (*_PIXELS, "neighbours")),
        commands=("cluster",), estimate=_shared(*_LAYER, "neighbours"),
    ),
    Quantity(
        "silhouette", "Silhouette", 3,
        "how far classes lie apart for their spread, −1 to 1", HIGHER,
        ((*_LAYER, "silhouette_chance"),),
        beside=("raw pixels", (*_PIXELS, "silhouette")),
        commands=("cluster",), estimate=_bare(*_LAYER, "silhouette"),
    ),
    Quantity(
        "cophenetic", "Cophenetic r", 3,
        "how faithfully the tree of classes shows their distances, up to 1", HIGHER,
        commands=("cluster",), estimate=_bare("categories", "cophenetic"),
    ),
)  # fmt: skip

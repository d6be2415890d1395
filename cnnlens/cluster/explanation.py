"""What explains an image: its predicted class, and what the filters of its path answer.

Dai 2020, §3.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from cnnlens.cluster.decision_path import DecisionPath
from cnnlens.cluster.filters import FilterTree

_NEAR = 1e-3  # shares of a value up to which others are equal to it: float16 keeps half of that
_NOISE = 1e-6  # the same, of the highest value


@dataclass(frozen=True)
class Prediction:
    """What the network says an image is.

    Attributes
    ----------
    number : int
        The class.
    name : str
        Its name, or its number where that is not known.
    probability : float or None
        Of the class; None where the network gives none.
    category : str or None
        The category of the data that is called after it.
    heat : numpy.ndarray
        (H, W) float32: Grad-CAM of the class.
    second : (str, float or None), optional
        The next class and its probability.
    """

    number: int
    name: str
    probability: float | None
    category: str | None
    heat: np.ndarray = field(repr=False)
    second: tuple[str, float | None] | None = None


@dataclass(frozen=True)
class Without:
    """What the network says of an image while one unit is switched off.

    Attributes
    ----------
    number : int
        The class that it then predicts.
    name : str
        Its name.
    probability : float or None
        Of that class.
    kept : float or None
        Of the class that it predicts with all units.
    """

    number: int
    name: str
    probability: float | None
    kept: float | None


@dataclass(frozen=True)
class Evidence:
    """What one critical filter answers.

    Attributes
    ----------
    activation : float
        Its highest activation on the image.
    peaks : numpy.ndarray
        (n,) float32: its highest activations on the category's images.
    share_below_category, share_below_data : float or None
        Share of the category's and of all images on which it is lower, equal ones (see
        `share_below`) counted half.
    top : tuple of int
        Rows of the images that excite it most.
    """

    activation: float
    peaks: np.ndarray = field(repr=False)
    share_below_category: float | None
    share_below_data: float | None
    top: tuple[int, ...]


def evidence(value: float, peaks: np.ndarray, rows: np.ndarray, top: int) -> Evidence:
    """Hold a filter's peak on an image against those on the data, (N,); `rows` are the category's.

    Listed are the `top` images of highest peak.
    """
    highest = np.argsort(-peaks, kind="stable")[:top]
    shares = share_below(peaks[rows], value), share_below(peaks, value)
    return Evidence(value, peaks[rows], *shares, top=tuple(int(row) for row in highest))


def share_below(values: np.ndarray, value: float) -> float | None:
    """Share of values that are smaller, equal ones counted half; None where there are none.

    Equal is what differs by less than a thousandth of the value, or a millionth of the highest: an
    image that is in the data is equal to itself, though it was stored as float16, or computed in
    a batch of another size.
    """
    if not len(values):
        return None
    exact = values.astype(np.float64)
    near = max(_NEAR * abs(value), _NOISE * float(np.abs(exact).max()))
    lower, equal = exact < value - near, np.abs(exact - value) <= near
    return float((lower.sum() + 0.5 * equal.sum()) / len(values))


@dataclass(frozen=True)
class Explanation:
    """What `explain` finds about an image.

    Attributes
    ----------
    prediction : Prediction or None
        None where the network gives no class scores.
    category : str
        The category whose tree the image goes down.
    tree : FilterTree
        The tree.
    path : DecisionPath
        The splits from its root to a leaf.
    evidence : tuple of Evidence or None
        One per split; None where a split has no critical filter.
    leaf : int
        Row of the image at which the path ends.
    without : mapping of int to Without
        By unit of the path: what the network says without it; empty where it cannot be asked.
    outputs : mapping of str to int
        The class that each category of the data means, without those that mean none.
    """

    prediction: Prediction | None
    category: str
    tree: FilterTree = field(repr=False)
    path: DecisionPath
    evidence: tuple[Evidence | None, ...]
    leaf: int
    without: Mapping[int, Without] = field(default_factory=dict)
    outputs: Mapping[str, int] = field(default_factory=dict, repr=False)

    @property
    def turned(self) -> list[int]:
        """Units of the path without which the network predicts another class."""
        seen = self.prediction
        return [u for u, w in self.without.items() if seen and w.number != seen.number]

    def right(self, category: str | None) -> bool | None:
        """Whether the predicted class is the one that a category means.

        None where nothing is predicted, and where the category means no class, as that of several
        (dogs, of a network that knows breeds).
        """
        seen, meant = self.prediction, None if category is None else self.outputs.get(category)
        return None if seen is None or meant is None else seen.number == meant

    @property
    def of_predicted(self) -> bool:
        """Whether it goes down the tree of the predicted class's category."""
        return self.prediction is not None and self.prediction.category == self.category

    def as_dict(
        self, images: Sequence[str], detects: Mapping[int, str] | None = None
    ) -> dict[str, Any]:
        """Return plain numbers and strings, for JSON.

        Parameters
        ----------
        images : sequence of str
            Names of the source's images, by row.
        detects : mapping of int to str, optional
            What filters detect, where that is known.
        """
        seen = self.prediction
        return {
            "class": seen.number if seen else None,
            "class_name": seen.name if seen else None,
            "probability": seen.probability if seen else None,
            "second": dict(zip(("class_name", "probability"), seen.second, strict=True))
            if seen and seen.second
            else None,
            "turned": self.turned,
            "category": self.category,
            "path": [self._split(i, images, detects or {}) for i in range(len(self.evidence))],
            "leaf": {"image": images[self.leaf], "distance": self.path.distance},
        }

    def _split(
        self, number: int, images: Sequence[str], detects: Mapping[int, str]
    ) -> dict[str, Any]:
        split, evidence = self.path.splits[number], self.evidence[number]
        found: dict[str, Any] = {
            "distance": float(self.tree.distances[split.merge]),
            "critical_filter": split.filter,
            "filters": int(self.tree.reachable[split.merge]),
            "images": int(self.tree.sizes[split.merge]),
            "to_chosen": split.to_chosen,
            "to_other": split.to_other,
            "images_chosen": int(self.tree.node_sizes[split.chosen]),
            "turn": split.turn and asdict(split.turn),
            "easiest": split.easiest and asdict(split.easiest),
        }
        if evidence is None or split.filter is None:
            return found
        return {
            **found,
            "activation": evidence.activation,
            "share_below_category": evidence.share_below_category,
            "share_below_data": evidence.share_below_data,
            "top_images": [images[row] for row in evidence.top],
            "without": asdict(self.without[split.filter]) if split.filter in self.without else None,
            **({"detects": detects[split.filter]} if detects.get(split.filter) else {}),
        }


# ---- explained images beside each other

IMAGE_COLUMNS = (
    *("image", "predicted", "probability", "is", "right", "category", "splits", "first filters"),
)


def image_row(name: str, found: Mapping[str, Any]) -> list[object]:
    """Give an image's row under `IMAGE_COLUMNS`, from its `Explanation.as_dict`."""
    true = (found.get("true") or {}).get("category")
    right = None if found.get("right") is None else ("no", "yes")[found["right"]]
    said = found["class_name"], found["probability"], true, right, found["category"]
    first = (str(split["critical_filter"]) for split in found["path"][:6])
    return [name, *said, len(found["path"]), " ".join(first)]

"""What `cnnlens.explain` finds about an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnnlens.cluster.decision_path import DecisionPath
from cnnlens.cluster.filters import FilterTree


@dataclass(frozen=True)
class Prediction:
    """What the network says an image is.

    Attributes
    ----------
    number : int
        The class.
    name : str
        Its name, or its number where that is not known.
    probability : float
        Of the class.
    category : str or None
        The category of the data that is called after it.
    heat : numpy.ndarray
        (H, W) float32: Grad-CAM of the class.
    """

    number: int
    name: str
    probability: float
    category: str | None
    heat: np.ndarray = field(repr=False)


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
        Share of the category's and of all images on which it is lower, equal ones counted half.
    top : tuple of int
        Rows of the images that excite it most.
    """

    activation: float
    peaks: np.ndarray = field(repr=False)
    share_below_category: float | None
    share_below_data: float | None
    top: tuple[int, ...]


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
    """

    prediction: Prediction | None
    category: str
    tree: FilterTree = field(repr=False)
    path: DecisionPath
    evidence: tuple[Evidence | None, ...]
    leaf: int

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
        }
        if evidence is None or split.filter is None:
            return found
        return {
            **found,
            "activation": evidence.activation,
            "share_below_category": evidence.share_below_category,
            "share_below_data": evidence.share_below_data,
            "top_images": [images[row] for row in evidence.top],
            **({"detects": detects[split.filter]} if detects.get(split.filter) else {}),
        }

"""What a network says that an image is, as one of the data's categories."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from cnnlens.activations import sources
from cnnlens.attribution.cam import ClassMaps
from cnnlens.cluster.explanation import Prediction, Without
from cnnlens.cluster.turns import answers_without
from cnnlens.errors import CnnlensError, UsageError, did_you_mean
from cnnlens.model.classes import class_name, probe_names
from cnnlens.model.layer import Layer
from cnnlens.model.layers import Layers
from cnnlens.model.matching import said_outputs, usual_outputs
from cnnlens.model.model import Model
from cnnlens.model.two_sided import SAID, side_names


def predictor(model: Model, names: Sequence[str], category: str | None) -> ClassMaps | None:
    """Give what predicts classes, Grad-CAM with it; None where the network predicts none.

    Raises
    ------
    UsageError
        When the category named is none of `names`, or none was named and nothing predicts one.
    """
    if category is not None and category not in names:
        near = did_you_mean(category, names)
        raise UsageError(
            f"no category '{category}' in the data", near or f"there are {', '.join(names[:8])}"
        )
    with suppress(CnnlensError):
        return ClassMaps(model, "gradcam", sides=True)
    if category is not None:
        return None
    raise UsageError(
        "the network returns no class scores, so it predicts no category",
        "name the category with --class",
    )


@dataclass(frozen=True)
class Predictor:
    """What answers images.

    Attributes
    ----------
    model : Model
        The network.
    look : ClassMaps
        See `predictor`.
    categories : sequence of str
        The data's.
    named : str or None
        The one whose tree every image goes down, whatever it is predicted as.
    """

    model: Model
    look: ClassMaps
    categories: Sequence[str]
    named: str | None

    @cached_property
    def classes(self) -> Sequence[str] | None:
        """Names of what is predicted."""
        known = self.model.classes
        return side_names(known, self.categories) if self.look.is_two_sided else known

    @cached_property
    def outputs(self) -> Mapping[str, int]:
        """The class that each category means, without those that mean none."""
        # with a named category no order of classes was held against images: none is assumed
        meant = usual_outputs if self.named is None else said_outputs
        return meant(self.categories, self.classes, self.look.count)

    def __call__(self, pixels: np.ndarray) -> Prediction:
        """Ask the network about an image, (C, H, W) uint8.

        Raises
        ------
        CnnlensError
            When a category is wanted, and none is called after the predicted class.
        """
        model, names = self.model, self.categories
        rows = torch.from_numpy(pixels)[None].repeat(model.batch or 1, 1, 1, 1)
        found = self.look(model.preprocess.normalize(rows.to(model.device)), None, 2)
        number = int(found.classes[0, 0])
        category = self._category(number)
        if category is None and self.named is None:
            raise CnnlensError(
                "no category of the data is called after the predicted class "
                + class_name(number, self.classes),
                f"name one with --class: {', '.join(names[:6])}"
                + (", …" if len(names) > 6 else ""),
            )
        return Prediction(
            number=number,
            name=self._name(number),
            probability=found.probability(0),
            category=category,
            heat=found.maps[0, 0].float().cpu().numpy(),
            second=(self._name(int(found.classes[0, 1])), found.probability(1)),
        )

    def without(
        self, seen: Prediction, layer: Layer, pixels: np.ndarray, units: Sequence[int]
    ) -> dict[int, Without]:
        """Ask again, with each of some units switched off; see `answers_without`."""
        found = answers_without(self.model, layer, pixels, units, seen.number, self.look.answers)
        return {unit: Without(n, self._name(n), *p) for unit, (n, *p) in found.items()}

    def _category(self, number: int) -> str | None:
        """The category of the data that means a class."""
        return next((name for name, output in self.outputs.items() if output == number), None)

    def _name(self, number: int) -> str:
        """Name a class; where the network has no names, after the category that means it."""
        known = self.classes
        return (None if known else self._category(number)) or class_name(number, known)


def probe(model: Model, layers: Callable[[], Layers]) -> list[str]:
    """See that a network predicts classes and can be read; say what is assumed of their names."""
    with model.in_use():
        look = predictor(model, [], None)
    read = sources.probe(model, layers)
    read += [SAID] if look and look.is_two_sided else []
    if model.classes is None:
        return [*read, "class folders are read in alphabetical order, where images bear it out"]
    return [*read, *probe_names(model)]

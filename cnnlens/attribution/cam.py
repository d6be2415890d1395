"""Where on an image a class was seen: class activation maps, and Grad-CAM for any network.

CAM weighs the last maps by the weights of a class, which needs a linear head on their average:
``sum(map) / (H * W) + bias`` is the class's score, which is seen on noise before any image.
Grad-CAM weighs the maps of any layer by the mean of the score's gradient and keeps what is
positive.

    seen = ClassMaps(model, method="cam")
    found = seen(x, classes=[281])      # found.maps (N, 1, H, W)
    found = seen.look(pixels, top=3)    # of (N, C, H, W) uint8

References
----------
B. Zhou et al.: Learning Deep Features for Discriminative Localization, CVPR 2016.
R. R. Selvaraju et al.: Grad-CAM, ICCV 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnnlens.attribution.found import Found
from cnnlens.attribution.head import Head, find_head, places
from cnnlens.attribution.output_graph import OutputGraph
from cnnlens.attribution.scored import Scored, weighed
from cnnlens.data.decoded import together
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.model.classes import class_scores, probe_names
from cnnlens.model.ending import SIGMOID, SOFTMAX, probabilities, without_link
from cnnlens.model.gradients import with_gradients
from cnnlens.model.layer import Layer
from cnnlens.model.layers import Layers
from cnnlens.model.model import Model
from cnnlens.model.trace import Place, Trace, as_input, trace
from cnnlens.model.two_sided import both_sides

METHODS = ("cam", "gradcam")


class ClassMaps:
    """Class activation maps of one network at one place.

    Parameters
    ----------
    model : Model
        The network; a caller's own runs in evaluation mode, and is left as it was.
    method : {"cam", "gradcam"}
        CAM needs a head that allows it.
    layer : str, optional
        Where to look. Default: CAM the maps that the class weights act on; Grad-CAM the maps that
        enter the global pooling, else ``last``.
    sides : bool
        Grad-CAM of a single output reads it as two classes (see `model.two_sided`).

    Attributes
    ----------
    layer : str
        Name of the place.
    place : Place
        The place.
    count : int
        Number of classes.
    head : Head or None
        The class weights, for CAM.

    Raises
    ------
    UsageError
        For an unknown layer, where the network has no class activation maps, and where the class
        weights do not act on `layer`; Grad-CAM is offered.
    """

    @with_gradients
    def __init__(
        self, model: Model, method: str = "cam", layer: str | None = None, sides: bool = False
    ) -> None:
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
        if model.headless:
            raise UsageError(
                f"{model.spec} has no classes: its outputs are features, without a classifier",
                "open a file with its classifier; `cnnlens layers` lists what can be read",
            )
        self._model, self.method, self._sides = model, method, sides
        with model.in_use():
            self._find(layer)

    def _find(self, layer: str | None) -> None:
        model, method = self._model, self.method
        shape = (model.batch or 1, model.preprocess.channels, *model.preprocess.size)
        x = model.example()
        passed = trace(model.net, x)
        self._ends = OutputGraph(passed, shape, model.head)
        self._scores_at = self._ends.score_place()
        count = self._on(x).shape[1]
        #: whether its single output is read as two classes
        self.is_two_sided = self._sides and count == 1
        self.count = 2 if self.is_two_sided else count
        layers = Layers(passed, shape, model.head)
        self.notes = layers.notes
        named = layers.resolve(layer) if layer else None
        self.head = self._find_head(x) if method == "cam" else None
        if self.head is not None:
            self.layer, self.place = self._cam_place(passed, self.head, named)
            self._check(self.head, x)
        else:
            self.layer, self.place = self._gradcam_place(passed, layers, x, named)

    def _on(self, x: Tensor) -> Tensor:
        """Scores (N, K) of images (N, C, H, W)."""
        with torch.no_grad():
            output = self._model.net(as_input(self._model.net, x))
        return class_scores(output, len(x), self._model.head).detach()

    def _at(self, layer: str, place: Place) -> Scored:
        return Scored(self._model, layer, place, self._scores_at, self.is_two_sided)

    def _find_head(self, x: Tensor) -> Head:
        found = find_head(self._ends, self._model.net, x)
        if isinstance(found, str):
            raise self._without_maps(found)
        return found

    def _without_maps(self, why: str) -> UsageError:
        return UsageError(
            f"{self._model.arch} has no class activation maps: {why}",
            "use --method gradcam, which any network allows",
        )

    def _check(self, head: Head, x: Tensor) -> None:
        """Hold the sums of class maps against the scores: what rearranges units or positions on
        the way is not all told by shapes.
        """
        if (missed := head.misses(*self._at(self.layer, self.place).read(x))) > head.rounding:
            raise self._without_maps(
                f"on noise their averages and the bias miss its class scores by {missed:.0%}"
            )

    def _cam_place(self, passed: Trace, head: Head, named: Layer | None) -> tuple[str, Place]:
        name, place = next(places(passed, head.maps))
        if named is None:
            return name, replace(place, channels_last=head.channels_last)
        if _value(passed, named.place) != head.maps:
            raise UsageError(
                f"the class weights of {self._model.arch} do not act on {named.name}",
                f"they act on {name}; --method gradcam looks at any layer",
            )
        return named.name, replace(named.place, channels_last=head.channels_last)

    def _gradcam_place(
        self, passed: Trace, layers: Layers, x: Tensor, named: Layer | None
    ) -> tuple[str, Place]:
        maps = self._ends.pooled()
        if named is None and maps is not None:
            return next(places(passed, maps))
        if named is None:
            named = layers.resolve("last")
            if named.place.tokens is not None:
                named = self._deepest_read(layers, x)
        return named.name, named.place

    def _deepest_read(self, layers: Layers, x: Tensor) -> Layer:
        """The last block whose tokens the scores read: behind it, the class token alone counts."""
        for block in reversed(layers.blocks):
            if self._reads(block, x):
                return block
        if self._is_constant(x):
            raise UsageError(
                f"the class scores of {self._model.arch} are the same for every image",
                "its head has no weights yet but zeros: name a trained network",
            )
        raise UsageError(
            f"the class scores of {self._model.arch} read no block's tokens but the class token",
            "name a layer with -l, such as the first norm of the last block",
        )

    def _is_constant(self, x: Tensor) -> bool:
        return torch.equal(self._on(x), self._on(-x.flip(3)))

    def _reads(self, block: Layer, x: Tensor) -> bool:
        try:
            self._at(block.name, block.place).gradcam(x, partial(_choose, classes=None, top=1))
        except UsageError:
            return False
        return True

    @with_gradients
    def __call__(self, x: Tensor, classes: Sequence[int] | None = None, top: int = 1) -> Found:
        """Look at images.

        Parameters
        ----------
        x : torch.Tensor
            (N, C, H, W), network input.
        classes : sequence of int, optional
            The classes to look for; None: each image's `top` classes by score.
        top : int
            How many.

        Raises
        ------
        CnnlensError
            When maps or scores are not finite, or the score does not depend on the layer.
        """
        choose = partial(_choose, classes=classes, top=top)
        read = self._at(self.layer, self.place)
        with self._model.in_use():
            if self.head is not None:
                maps, scores = read.read(x)
                chosen = choose(scores)
                found = weighed(maps, self.head.weights[chosen])
            else:
                scores, chosen, found = read.gradcam(x, choose)
        if not (found.isfinite().all() and scores.isfinite().all()):
            raise CnnlensError(
                f"the class maps of {self._model.arch} at {self.layer} are not finite",
                "the network overflows there: check its weights, and --mean and --std",
            )
        shares = self.shares(scores)
        shown = None if shares is None else shares.gather(1, chosen)
        return Found(found, chosen, scores.gather(1, chosen), shown)

    def shares(self, scores: Tensor) -> Tensor | None:
        """Probabilities (N, K); None of a single output without a sigmoid."""
        if self.is_two_sided:
            return probabilities(scores, SOFTMAX)
        known = scores.shape[1] > 1 or self._ends.link == SIGMOID
        return probabilities(scores, self._ends.link) if known else None

    def answers(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scores (N, K) of what the network itself returns, and their `shares`."""
        scores = without_link(output, self._ends.link)
        scores = both_sides(scores) if self.is_two_sided else scores
        return scores, self.shares(scores)

    def look(self, pixels: np.ndarray, classes: Sequence[int] | None = None, top: int = 1) -> Found:
        """Look at images as they were read.

        Parameters
        ----------
        pixels : numpy.ndarray
            (N, C, H, W) uint8, at the size of the network's input; where an exported program takes
            batches of one size, the last image fills them up.
        classes, top
            As when called; `top` is at most the number of classes.
        """
        model = self._model
        rows = np.concatenate([pixels, *[pixels[-1:]] * ((model.batch or 0) - len(pixels))])
        x = model.preprocess.normalize(torch.from_numpy(rows).to(model.device))  # (N, C, H, W)
        return self(x, classes, min(top, self.count))

    def each(
        self,
        images: Iterable[tuple[Any, np.ndarray]],
        size: int,
        classes: Sequence[int] | None = None,
        top: int = 1,
    ) -> Iterator[tuple[Any, np.ndarray, Found]]:
        """Look at images in batches of `size`; yield what each is, its pixels, its maps (N = 1).

        Parameters
        ----------
        images : iterable of (object, numpy.ndarray)
            Anything, and (C, H, W) uint8.
        size, classes, top
            As in `look`.
        """
        waiting = iter(images)
        while batch := list(islice(waiting, size)):
            found = self.look(together([pixels for _, pixels in batch]), classes, top)
            for row, (what, pixels) in enumerate(batch):
                yield what, pixels, found.of(row)


def _choose(scores: Tensor, classes: Sequence[int] | None, top: int) -> Tensor:
    """Classes to look for, (N, k): those that are named, else the `top` ones by score."""
    if classes is not None:
        return torch.tensor(list(classes), device=scores.device).expand(len(scores), -1)
    # stable, so that equal scores keep the classes' order
    return scores.sort(dim=1, descending=True, stable=True).indices[:, :top]


def _value(passed: Trace, place: Place) -> int:
    """Number of the value that stands at a place."""
    if place.op >= 0:
        return passed.ops[place.op].outputs[place.output]
    return next(
        call.value for call in passed.calls if (call.path, call.number) == (place.path, place.call)
    )


def probe_cam(model: Model, layers: Callable[[], Layers]) -> list[str]:
    """See that a network has the head that CAM needs."""
    return _probed(model, "cam")


def probe_gradcam(model: Model, layers: Callable[[], Layers]) -> list[str]:
    """See that Grad-CAM is defined for a network."""
    return _probed(model, "gradcam")


def _probed(model: Model, method: str) -> list[str]:
    with model.in_use():
        ClassMaps(model, method)
    return probe_names(model)

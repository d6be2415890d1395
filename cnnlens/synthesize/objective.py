"""What an image is optimized for: a number read off the network for one image.

Objectives compose: ``channel(layer, 3) - 0.5 * channel(layer, 7)`` is one too. Each names the
places it reads; the forward pass stops at the deepest of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cnnlens.model.classes import class_scores
from cnnlens.model.hooks import read_and_run
from cnnlens.model.layer import Layer
from cnnlens.model.model import Model
from cnnlens.model.refused import explained
from cnnlens.model.streams import sent
from cnnlens.model.trace import Place, as_input

# the class scores that the network itself returns, beside the places inside it
OUTPUT = Place(op_name="output")

_PEAK = 0.4  # weight of the highest activation beside the mean
_RIVALS = 5  # classes that are held against one

Reading = Mapping[Place, Tensor]  # of one image: maps (C, H, W), or class scores (K,) at OUTPUT


@dataclass(frozen=True)
class Objective:
    """A number to be made large.

    Attributes
    ----------
    name : str
        For people, and the seed of everything random that is done for it.
    places : tuple of Place
        What it reads.
    value : callable
        From the reading of one image to a tensor without dimensions.
    sees : float
        How many pixels of the input it sees across; infinite: all.
    of_class : bool
        Whether it reads the score of a class.
    """

    name: str
    places: tuple[Place, ...]
    value: Callable[[Reading], Tensor]
    sees: float = math.inf
    of_class: bool = False

    def __add__(self, other: Objective | float) -> Objective:
        return _joined("+", self, other, lambda a, b: a + b)

    def __radd__(self, other: float) -> Objective:
        # sum() begins with 0
        return self if other == 0 else _joined("+", self, other, lambda a, b: b + a)

    def __sub__(self, other: Objective | float) -> Objective:
        return _joined("-", self, other, lambda a, b: a - b)

    def __rsub__(self, other: float) -> Objective:
        return -self + other

    def __mul__(self, other: Objective | float) -> Objective:
        return _joined("*", self, other, lambda a, b: a * b)

    def __rmul__(self, other: float) -> Objective:
        name = f"{other:g}*{_bracketed(self.name)}"
        return replace(self, name=name, value=lambda reading: other * self.value(reading))

    def __neg__(self) -> Objective:
        name = f"-{_bracketed(self.name)}"
        return replace(self, name=name, value=lambda reading: -self.value(reading))


def _joined(
    sign: str,
    one: Objective,
    other: Objective | float,
    join: Callable[[Tensor, Tensor | float], Tensor],
) -> Objective:
    if not isinstance(other, Objective):
        number = float(other)
        left = _bracketed(one.name) if sign == "*" else one.name
        name = f"{left}{sign}{number:g}"
        return replace(one, name=name, value=lambda reading: join(one.value(reading), number))
    names = [one.name, other.name] if sign == "+" else [one.name, _bracketed(other.name)]
    names[0] = _bracketed(one.name) if sign == "*" else names[0]
    places = tuple(dict.fromkeys((*one.places, *other.places)))
    return Objective(
        sign.join(names),
        places,
        lambda reading: join(one.value(reading), other.value(reading)),
        max(one.sees, other.sees),
        one.of_class or other.of_class,
    )


def _bracketed(name: str) -> str:
    return f"({name})" if any(sign in name[1:] for sign in "+-") or name[:1] == "-" else name


def unit(layer: Layer, number: int, position: tuple[int, int] | None = None) -> Objective:
    """One unit at one position of its map.

    Parameters
    ----------
    layer : Layer
        Where it is.
    number : int
        The unit, from 0.
    position : (int, int), optional
        Row and column in the map; the centre by default.
    """
    _check_unit(layer, number)
    height, width = layer.shape[1:]
    y, x = position or (height // 2, width // 2)
    if not (0 <= y < height and 0 <= x < width):
        raise ValueError(f"position {y},{x} in maps of {height}×{width}")
    return Objective(
        f"{layer.name}:{number}@{y},{x}",
        (layer.place,),
        lambda reading: reading[layer.place][number, y, x],
        _sight(layer),
    )


def channel(layer: Layer, number: int) -> Objective:
    """Mean of one unit over all positions."""
    return _of_map(layer, number, "@mean", lambda values: values.mean())


def response(layer: Layer, number: int) -> Objective:
    """A unit's answer as a whole: the mean of its rectified map, and its highest activation.

    The mean alone leaves single positions weak, and of a unit without rectifier it is the mean
    colour's; the highest alone leaves the rest of the image empty. Over the square root of the
    number of positions, the one would pull on the image about as strongly as the other: so much
    that one bright spot grows that no other place has.
    """
    return _of_map(layer, number, "", _response)


def _response(values: Tensor) -> Tensor:
    return torch.relu(values).mean() + _PEAK * values.amax() / values.numel() ** 0.5


def peak(layer: Layer, number: int) -> Objective:
    """The highest activation of one unit, wherever it is."""
    return _of_map(layer, number, "@max", lambda values: values.amax())


def _of_map(layer: Layer, number: int, of: str, value: Callable[[Tensor], Tensor]) -> Objective:
    """Make a `value` of one unit's map (H, W) large; its name ends in what it is `of`."""
    _check_unit(layer, number)

    def read(reading: Reading) -> Tensor:
        return value(reading[layer.place][number])

    return Objective(f"{layer.name}:{number}{of}", (layer.place,), read, _sight(layer))


def along(layer: Layer, direction: np.ndarray, name: str, target: str = "map") -> Objective:
    """Activations along a direction over all units, as if it were one unit.

    Parameters
    ----------
    layer : Layer
        Where.
    direction : numpy.ndarray
        (C,) float32.
    name : str
        What the direction is of.
    target : str
        What of the map along it is made large: as a unit's `response` ("map"), its `channel`
        ("mean"), its `peak` ("max"), or its value at the "centre".
    """
    if direction.shape != (layer.units,):
        raise ValueError(f"a direction of {direction.shape} in {layer.name}, of {layer.units}")
    weights = torch.from_numpy(np.ascontiguousarray(direction, np.float32))
    height, width = layer.shape[1:]

    def value(reading: Reading) -> Tensor:
        maps = reading[layer.place]  # (C, H, W)
        values = torch.tensordot(sent(weights, maps.device), maps, 1)  # (H, W)
        if target == "mean":
            return values.mean()
        if target == "centre":
            return values[height // 2, width // 2]
        if target == "max":
            return values.amax()
        return _response(values)

    suffix = "" if target == "map" else f"@{target}"
    return Objective(f"{layer.name}:[{name}]{suffix}", (layer.place,), value, _sight(layer))


def whole(layer: Layer) -> Objective:
    """All of a layer at once: the mean square of its activations (DeepDream)."""
    return Objective(
        layer.name,
        (layer.place,),
        lambda reading: reading[layer.place].square().mean(),
        _sight(layer),
    )


def _sight(layer: Layer) -> float:
    return max(math.inf if field.whole else field.size for field in layer.fields)


def logit(number: int, name: str = "", rivals: float = 0.0, at: Place = OUTPUT) -> Objective:
    """Score of a class before the softmax.

    Parameters
    ----------
    number : int
        The class.
    name : str
        Its name.
    rivals : float
        How much of the mean of its strongest rivals (the five highest scores of other classes) is
        taken off. What excites many classes at once, such as eyes or fur, is then no way up.
    at : Place
        Where the scores are: where a network ends in a softmax, before it (see `score_place`).
    """

    def value(reading: Reading) -> Tensor:
        scores = reading[at].reshape(-1)  # (K,)
        others = torch.cat([scores[:number], scores[number + 1 :]])
        if not rivals or not len(others):
            return scores[number]
        return scores[number] - rivals * others.topk(min(_RIVALS, len(others))).values.mean()

    return Objective(f"logit:{name or number}", (at,), value, of_class=True)


def custom(
    layers: Layer | Sequence[Layer], function: Callable[..., Tensor], name: str = ""
) -> Objective:
    """Anything: `function` gets each layer's maps (C, H, W) of one image and returns a number."""
    several = [layers] if isinstance(layers, Layer) else list(layers)
    name = name or getattr(function, "__name__", "custom")
    places = tuple(layer.place for layer in several)
    return Objective(name, places, lambda reading: function(*(reading[p] for p in places)))


def evaluate(model: Model, objectives: Sequence[Objective], x: Tensor) -> Tensor:
    """Run the network once on a batch; return each image's own objective.

    Parameters
    ----------
    model : Model
        The network; the pass stops at the deepest place that any of the objectives reads.
    objectives : sequence of Objective
        One per image.
    x : torch.Tensor
        (N, C, H, W), normalized.

    Returns
    -------
    torch.Tensor
        (N,), differentiable.
    """
    if len(objectives) != len(x):
        raise ValueError(f"{len(objectives)} objectives for {len(x)} images")
    readings = read_images(model, list(dict.fromkeys(p for o in objectives for p in o.places)), x)
    values = [o.value(reading) for o, reading in zip(objectives, readings, strict=True)]
    if any(value.ndim for value in values):
        raise ValueError(f"an objective gave {next(v.shape for v in values if v.ndim)}, no number")
    return torch.stack(values)


def read_images(model: Model, places: Sequence[Place], x: Tensor) -> list[dict[Place, Tensor]]:
    """Run the network once on a batch (N, C, H, W); return what stands at `places`, per image."""
    count = len(x)
    if model.batch and count < model.batch:  # an exported program of one batch size is filled up
        x = torch.cat([x, x[-1:].expand(model.batch - count, -1, -1, -1)])
    inner = [place for place in places if place is not OUTPUT]
    ends = OUTPUT in places
    found, output = read_and_run(model.net, x, inner, stop=not ends, gradient=True)
    values = dict(zip(inner, found, strict=True))
    if ends:
        values[OUTPUT] = class_scores(output, len(x), model.head)
    # apart first: the gradient of each image's part then stays as small as the part
    apart = {place: value.unbind(0) for place, value in values.items()}
    return [{place: parts[row] for place, parts in apart.items()} for row in range(count)]


def scores(model: Model) -> Tensor:
    """Class scores (K,) that the network returns of a grey image.

    Raises
    ------
    CnnlensError
        When it does not run, or gives none.
    """
    size = (model.batch or 1, model.preprocess.channels, *model.preprocess.size)
    x = as_input(model.net, torch.zeros(size, device=model.device))
    with torch.no_grad(), explained(model.net, x):
        (reading,) = read_images(model, [OUTPUT], x)[:1]
    return reading[OUTPUT]


def _check_unit(layer: Layer, number: int) -> None:
    if not 0 <= number < layer.units:
        raise ValueError(f"unit {number} of {layer.name}, which has {layer.units}")

"""Where a network is operated on: whose maps are masked, get a convolution behind them, or are
listened to alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from cnnlens.errors import UsageError
from cnnlens.interpretable.request import Request
from cnnlens.model.convolutions import find_convolutions
from cnnlens.model.layer import Layer
from cnnlens.model.model import Model
from cnnlens.model.rectified import RectifiedLayers, within
from cnnlens.model.surgery import Plan


def sites(model: Model, request: Request, head: str) -> list[Layer]:
    """Layers whose maps are masked or pulled, and behind the last of which a convolution comes."""
    if not (request.method == "icnn" or request.insert):
        if request.method == "none" and request.layers:
            raise UsageError(
                "--method none trains all layers alike: -l says nothing",
                "leave it out, or add --insert",
            )
        return []
    names = request.layers if request.method != "cgl" else request.layers[-1:]
    known = RectifiedLayers(model)
    layers = [known.named(name) for name in names] or [known.last(head)]
    for layer in layers:
        if within(head, layer.place.path) or _behind(model, layer.alias, head):
            raise UsageError(
                f"layer '{layer.name}' is the classifier itself",
                f"choose one below it, such as {known.last(head).name}",
            )
    _check_apart(layers)
    return layers


def _check_apart(layers: Sequence[Layer]) -> None:
    """See that no layer lies within another, whose module is about to be wrapped in a new one."""
    for outer in layers:
        for inner in layers:
            paths = inner.place.path, outer.place.path
            if paths[0] != paths[1] and within(*paths):
                raise UsageError(
                    f"layer '{inner.name}' is a part of layer '{outer.name}'",
                    "name one of them",
                )


def plans_of(request: Request, layers: Sequence[Layer]) -> list[Plan]:
    """Give what is to be done to the network at those layers."""
    found = {layer.place.path: layer for layer in layers}
    plans = [
        Plan(
            path, layer.shape[0], insert=request.insert and path == list(found)[-1],
            mask=request.masks,
            position=request.icnn.position, beta=request.icnn.beta,
            learn_beta=request.icnn.learn_beta,
        )
        for path, layer in found.items()
    ]  # fmt: skip
    return [plan for plan in plans if plan.changes or request.method == "icnn"]


def _behind(model: Model, alias: str | None, head: str) -> bool:
    return any(c.alias == alias and c.path == head for c in find_convolutions(model))

"""DeconvNet: what of an image drove a unit, projected back to pixels by one backward pass.

From one unit's map, all others zero: transposed convolutions, a rectifier on the reconstruction at
every rectifier, unpooling with the switches of the forward pass. Where windows overlap, switches
add (the adjoint of the pooling). Biases take no part, batch norm keeps gamma / sigma.

    seen = Projector(net, x, layer.place)
    pixels = seen.project([12], method="deconvnet")   # from unit 12's peak, per image

Nonlinearities other than rectifiers have no definition; they keep the gradient, and `undefined`
names them.

References
----------
M. D. Zeiler, R. Fergus: Visualizing and Understanding Convolutional Networks, ECCV 2014.
J. T. Springenberg et al.: Striving for Simplicity, ICLR 2015 (``method="guided"``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from cnnlens.attribution.rules import RULES, Graph, OutOfPlace, applying
from cnnlens.attribution.watch import Watch
from cnnlens.errors import CnnlensError, UsageError
from cnnlens.model.borrowed import borrowed
from cnnlens.model.gradients import CUT, with_gradients
from cnnlens.model.hooks import Live, read_live
from cnnlens.model.layer import Layer
from cnnlens.model.layers import Layers
from cnnlens.model.model import Model
from cnnlens.model.trace import Place

Position = tuple[int, int]


def check_projects(layer: Layer) -> None:
    """Refuse a layer behind attention.

    Raises
    ------
    UsageError
        When it is.
    """
    if layer.sees_all:
        raise UsageError(
            f"no projection of {layer.name}: attention, which it is behind, has no inverse",
            "visualize, invert and cam --method gradcam look at it",
        )


class Projector:
    """One forward pass, from which any of its units can be projected back.

    Parameters
    ----------
    net : torch.nn.Module
        Whatever state it is in: it runs in evaluation mode, and is left as it was.
    x : torch.Tensor
        (N, C, H, W), network input.
    place : Place
        Where the units are.

    Attributes
    ----------
    maps : torch.Tensor
        (N, units, h, w), the activations at the place.
    undefined : list of str
        Nonlinearities on the way for which no rule but the gradient is defined.

    Raises
    ------
    CnnlensError
        When the place does not depend on the input.
    """

    @with_gradients
    def __init__(self, net: nn.Module, x: Tensor, place: Place) -> None:
        self._x = x.detach().clone().requires_grad_(True)
        live, graph = self._read(net, place)
        if graph is not None and graph.writes_into_parts:
            with OutOfPlace():
                live, graph = self._read(net, place)
        if live.edge is None or graph is None:
            name = place.path or place.op_name
            if self._moves(net, place, live.value):
                raise CnnlensError(
                    f"no gradient leads from {name} to the image: the network depends on it, but "
                    f"{CUT}",
                    "choose a layer before that, or open the network without that part",
                )
            raise CnnlensError(
                f"{name} does not depend on the input",
                "choose a layer that the input reaches",
            )
        self._edge, self._place, self._value = live.edge, place, live.value
        self._graph = graph
        self.maps = place.as_maps(live.value)
        self.undefined = graph.undefined()

    def _read(self, net: nn.Module, place: Place) -> tuple[Live, Graph | None]:
        with borrowed(net), torch.enable_grad():
            x = self._x.clone()  # a leaf resists in-place changes
            with Watch(x) as watch:
                (live,), _ = read_live(net, x, [place])
        return live, None if live.edge is None else Graph(live.edge, self._x, watch)

    def _moves(self, net: nn.Module, place: Place, value: Tensor) -> bool:
        """Whether the value at a place changes with the input, gradient or not."""
        with borrowed(net):
            (other,), _ = read_live(net, -self._x.flip(3), [place])
        return not torch.equal(other.value, value)

    def peaks(self, unit: int) -> list[Position]:
        """Row and column of a unit's highest activation, per image; the first of equal ones."""
        width = self.maps.shape[3]
        return [divmod(at, width) for at in self.places([unit] * len(self.maps)).tolist()]

    def places(self, units: Sequence[int]) -> Tensor:
        """Where one unit per image is highest, (N,), counted along rows; on the device."""
        maps = torch.stack([self.maps[row, unit] for row, unit in enumerate(units)])  # (N, h, w)
        return maps.flatten(1).argmax(1)

    @with_gradients
    def project(
        self,
        units: Sequence[int],
        positions: Sequence[Position | None] | None = None,
        *,
        method: str = "deconvnet",
        whole: bool = False,
    ) -> Tensor:
        """Project one unit per image.

        Parameters
        ----------
        units : sequence of int
            One per image, or one for all.
        positions : sequence of (row, column) or None, optional
            Where in the map to start, per image; None: the unit's peak.
        method : {"deconvnet", "guided", "gradient"}
            The rule of the rectifiers.
        whole : bool
            Start from the unit's whole map instead.

        Returns
        -------
        torch.Tensor
            (N, C, H, W) float32 in the network's input plane; sign and scale kept.
        """
        if method not in RULES:
            raise ValueError(f"method must be one of {', '.join(RULES)}, not {method!r}")
        units = list(units) * len(self.maps) if len(units) == 1 else list(units)
        if len(units) != len(self.maps):
            raise ValueError(f"{len(units)} units for {len(self.maps)} images")
        seed = self._seed(units, positions, whole)
        with applying(method, self._graph):
            return self._backward(seed)

    def _seed(
        self, units: list[int], positions: Sequence[Position | None] | None, whole: bool
    ) -> Tensor:
        """All zero but for the chosen activations."""
        seed, at = torch.zeros_like(self.maps), self.places(units)
        every = torch.arange(self.maps[0, 0].numel(), device=seed.device).view(self.maps.shape[2:])
        for row, unit in enumerate(units):
            given = positions[row] if positions is not None else None
            if whole:
                seed[row, unit] = self.maps[row, unit]
            elif given is None:  # the peak, which stays on the device
                seed[row, unit] = self.maps[row, unit].where(every == at[row], 0)
            else:
                y, x = given
                seed[row, unit, y, x] = self.maps[row, unit, y, x]
        return seed

    def _backward(self, seed: Tensor) -> Tensor:
        seed = self._place.laid_out(seed, self._value)
        (found,) = torch.autograd.grad(
            self._edge, self._x, seed, retain_graph=True, allow_unused=True
        )
        return torch.zeros_like(self._x) if found is None else found.detach()


def project(
    net: nn.Module,
    x: Tensor,
    place: Place,
    unit: int,
    position: Position | None = None,
    *,
    method: str = "deconvnet",
    whole: bool = False,
) -> Tensor:
    """Project one unit of each image back to pixels (see `Projector`).

    Parameters
    ----------
    net : torch.nn.Module
        Whatever state it is in: it runs in evaluation mode, and is left as it was.
    x : torch.Tensor
        (N, C, H, W), network input.
    place : Place
        Where the unit is: ``find_layers(model).resolve("conv5").place``.
    unit : int
        Counted from 0.
    position : (int, int), optional
        Row and column to start from; None: each image's peak.
    method : {"deconvnet", "guided", "gradient"}
        The rule of the rectifiers.
    whole : bool
        Start from the unit's whole map.

    Returns
    -------
    torch.Tensor
        (N, C, H, W) float32 in the network's input plane; sign and scale kept.

    Raises
    ------
    CnnlensError
        When the place does not depend on the input.
    """
    positions = None if position is None else [position] * len(x)
    seen = Projector(net, x, place)
    return seen.project([unit], positions, method=method, whole=whole)


# ---- whether that is defined for a network


def probe(model: Model, layers: Callable[[], Layers]) -> list[str]:
    """Project a unit of the last layer back; name nonlinearities that have no rule."""
    check_projects(layers().resolve("last"))
    unruled = _probed(model, layers, "deconvnet")
    return [f"no rule but the gradient for {', '.join(unruled)}"] if unruled else []


def probe_gradient(model: Model, layers: Callable[[], Layers]) -> list[str]:
    """See that the gradient of a unit of the last layer reaches the image."""
    _probed(model, layers, "gradient")
    return []


def _probed(model: Model, layers: Callable[[], Layers], method: str) -> list[str]:
    layer = layers().resolve("last")
    with model.in_use():
        projector = Projector(model.net, model.example(), layer.place)
        projected = projector.project([0], method=method)
    if not bool(projected.isfinite().all()):
        raise CnnlensError(f"the projection of {layer.name} is not finite", "check the weights")
    return list(projector.undefined)

"""Images by a generator: what is optimized is its code, the answer of a deep layer (DGN-AM).

    z ← clip(.99 · (z + step along ∂a(G(z))/∂z))

G was trained to turn a layer's answers into photos, so whatever code is tried looks like one. The
decay is the gradient of λ‖z‖², and every unit of the code stays within what photos give: from 0 to
their mean + 3σ (a layer that also answers below 0: from their mean − 3σ).

References
----------
Nguyen, Dosovitskiy, Yosinski, Brox, Clune: Synthesizing the preferred inputs for neurons in neural
networks via deep generator networks. NeurIPS 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.model.layer import Layer
from cnnlens.model.layers import CLASS_TOKEN, Layers
from cnnlens.model.model import Model
from cnnlens.synthesize.examples import Examples
from cnnlens.synthesize.objective import read_images
from cnnlens.synthesize.transform import resized

SIGMAS = 3.0  # how far from their mean codes may go
_SPREAD = 0.1  # of first codes, in deviations of photos'
_BELOW, _ABOVE = -0.25, 2.0  # what leaves these is no image in [0, 1]: in [-1, 1], in [0, 255]


@dataclass(frozen=True)
class Range:
    """What the units of codes are on photos, over all positions: (C, 1, 1) each."""

    mean: Tensor
    deviation: Tensor
    lowest: Tensor

    @classmethod
    def of(cls, examples: Examples, rows: Tensor) -> Range:
        """Take what `Examples.read` measured; the lowest, of at most 256 of these rows."""
        some = rows[:: -(-len(rows) // 256)]
        lowest = [examples.features(part).amin((0, 2, 3)) for part in some.split(32)]
        found = examples.mean.float(), examples.deviation.float(), torch.stack(lowest).amin(0)
        return cls(*(one.reshape(-1, 1, 1) for one in found))

    def to(self, device: torch.device) -> Range:
        """Give it on a device."""
        return Range(*(one.to(device) for one in vars(self).values()))

    @property
    def top(self) -> Tensor:
        """Largest code that is let be."""
        return self.mean + SIGMAS * self.deviation

    @property
    def bottom(self) -> Tensor:
        """Smallest: 0, where no photo gives less."""
        below = (self.mean - SIGMAS * self.deviation).clamp_max(0)
        return torch.where(self.lowest < 0, below, torch.zeros_like(below))


@dataclass(frozen=True, eq=False)
class Generator:
    """A network from codes to images.

    Attributes
    ----------
    net : torch.nn.Module
        In evaluation mode, on the model's device: codes (N, C, h, w), or (N, C) where `flat`, to
        images.
    layer : Layer
        Whose answers the codes are.
    codes : Range
        What they are on photos.
    between : (float, float)
        What black and white are in its images.
    flat : bool
        Whether it takes vectors.
    """

    net: nn.Module
    layer: Layer
    codes: Range
    between: tuple[float, float] = (0.0, 1.0)
    flat: bool = False

    def images(self, codes: Tensor) -> Tensor:
        """Images (N, C', h', w') in units of [0, 1], which the net may leave."""
        low, high = self.between
        made: Tensor = self.net(codes.flatten(1) if self.flat else codes)
        return (made.float() - low) / (high - low)


@dataclass(frozen=True, eq=False)
class Generated:
    """Images of a generator, as the loop takes them.

    Codes (N, C, h, w) are in shares of the largest value that each unit may have, so that a step of
    one size moves every unit by as much of its range.
    """

    shape: tuple[int, int, int]
    generator: Generator
    model: Model

    @property
    def scale(self) -> Tensor:
        """(C, 1, 1): what a share of 1 is; 1 where a unit is always 0."""
        codes = self.generator.codes
        largest = torch.maximum(codes.top, -codes.bottom)
        return torch.where(largest > 0, largest, torch.ones_like(largest))

    def noise(self, generators: Sequence[torch.Generator], deviation: float) -> Tensor:
        """Codes around that of the mean photo; `deviation` does not matter."""
        codes = self.generator.codes
        drawn = [torch.randn(self.generator.layer.shape, generator=one) for one in generators]
        made = codes.mean + _SPREAD * codes.deviation * torch.stack(drawn).to(codes.mean)
        return self.kept(made / self.scale)

    def decode(self, code: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1], resized where the generator's have another size."""
        made = self.generator.images(code * self.scale.to(code))
        if made.shape[2:] != self.shape[1:]:
            made = resized(made, self.shape[1:])
        if made.shape[1] != self.shape[0]:  # grey and colours
            made = made.mean(1, keepdim=True).expand(-1, self.shape[0], -1, -1)
        return made.clamp(0, 1)

    def encode(self, images: Tensor) -> Tensor:
        """Codes that the network itself answers images with."""
        with torch.no_grad():
            return codes_of(self.model, self.generator.layer, images) / self.scale

    def kept(self, code: Tensor) -> Tensor:
        """Bring every unit back to what photos give."""
        codes, scale = self.generator.codes, self.scale
        return torch.clamp(code, (codes.bottom / scale).to(code), (codes.top / scale).to(code))


def codes_of(model: Model, layer: Layer, images: Tensor) -> Tensor:
    """Answers (N, C, h, w) of a layer on images (N, C', H, W) in [0, 1]."""
    seen = resized(images.to(model.device), model.preprocess.size)
    readings = read_images(model, [layer.place], model.preprocess.normalize(seen))
    return torch.stack([reading[layer.place] for reading in readings])


def code_layer(model: Model, layers: Layers, spread: bool = True) -> Layer:
    """Find the deepest layer before the one whose weights give the classes their scores.

    With `spread`, where it only pools maps, as global average pooling does, their layer is taken:
    pooled, they say what is on a photo, and no longer where.

    Raises
    ------
    UsageError
        When there is none.
    """
    every = [layer for layer in layers.rows if not layer.name.endswith(CLASS_TOKEN)]
    modules = dict(model.net.named_modules())
    weighted = [one.depth for one in every if _has_weights(modules.get(one.place.path))]
    before = [one for one in every if weighted and one.depth < weighted[-1]]
    if not before:
        raise UsageError(
            "it is not known which layer stands before the classes", "name the code with --code"
        )
    code = before[-1]
    maps = [one for one in before if one.shape[1:] != (1, 1)]
    pools = code.shape[1:] == (1, 1) and bool(maps) and maps[-1].units == code.units
    connects = pools and any(one.depth > maps[-1].depth for one in before
                             if _has_weights(modules.get(one.place.path)))  # fmt: skip
    return maps[-1] if spread and pools and not connects else code


def _has_weights(module: nn.Module | None) -> bool:
    """Whether a module itself connects units, as convolutions and linear layers do."""
    own = [] if module is None else module.parameters(recurse=False)
    return any(parameter.ndim > 1 for parameter in own)


def fitted(
    net: nn.Module, layer: Layer, codes: Range, shape: tuple[int, int, int], name: str,
    between: tuple[float, float] | None = None,
) -> tuple[Generator, list[str]]:  # fmt: skip
    """Try a generator that was not trained here; say what is assumed of it.

    Parameters
    ----------
    net : torch.nn.Module
        Put into evaluation mode.
    layer, codes, between
        As `Generator` has them; `between` is guessed where it is left out.
    shape : (int, int, int)
        (C, H, W) of the images that are wanted.
    name : str
        What it is called in messages.

    Raises
    ------
    CnnlensError
        When it takes other codes, or what it gives is no image.
    """
    net.eval().requires_grad_(False)
    found, flat = _two_images(net, layer, codes, name)
    _check_images(found, shape[0], name)
    said = []
    if tuple(found.shape[2:]) != shape[1:]:
        size = _times(found.shape[2:])
        said.append(f"{name} draws {size} pixels, which are resized to {_times(shape[1:])}")
    if between is None:
        between = _guessed(found)
        low, high = (f"{one:g}" for one in between)
        said.append(
            f"its images are taken to lie between {low} and {high}; --generator-range LOW,HIGH "
            "says otherwise"
        )
    return Generator(net, layer, codes, between, flat), said


def _two_images(net: nn.Module, layer: Layer, codes: Range, name: str) -> tuple[Tensor, bool]:
    """What a network makes of two codes, and whether it takes them flat: as maps first, where both
    may be.
    """
    found, first, flat = None, None, False
    for flat in (False, True) if layer.shape[1:] == (1, 1) else (False,):
        made = Generator(net, layer, codes, (0.0, 1.0), flat)
        try:
            with torch.no_grad():
                found = made.images(torch.stack([codes.mean, codes.top]).expand(2, *layer.shape))
        except Exception as error:  # whatever a foreign network makes of other codes
            first = first or error
            continue
        if isinstance(found, Tensor) and found.ndim == 4:
            break
    if found is None:
        raise _other_codes(net, layer, name, first)
    return found, flat


def _check_images(found: Tensor, wanted: int, name: str) -> None:
    channels = found.shape[1] if found.ndim == 4 else 0
    if not channels or len(found) != 2 or (channels != wanted and 1 not in (channels, wanted)):
        raise CnnlensError(
            f"{name} gives {_times(found.shape[1:])} for a code, no image of {wanted} channels",
            "it has to return images (N, C, H, W)",
        )
    if not bool(found.isfinite().all()):
        raise CnnlensError(f"{name} gives values that are not finite", "check its weights")


def _guessed(images: Tensor) -> tuple[float, float]:
    if float(images.amax()) > _ABOVE:
        return 0.0, 255.0
    return (-1.0, 1.0) if float(images.amin()) < _BELOW else (0.0, 1.0)


def _other_codes(net: nn.Module, layer: Layer, name: str, error: Exception | None) -> CnnlensError:
    first = next((m for m in net.modules() if _has_weights(m)), None)
    takes = getattr(first, "in_features", None) or getattr(first, "in_channels", None)
    mine = f"{layer.name} answers with {_times(layer.shape)}"
    if takes and takes != layer.units:
        return CnnlensError(
            f"{name} takes codes of {takes} units, {mine}", "name the layer it was made for: --code"
        )
    return CnnlensError(
        f"{name} fails on the answers of {layer.name} ({_times(layer.shape)}): "
        f"{type(error).__name__}: {' '.join(str(error).split())}",
        "name the layer it was made for: --code LAYER",
    )


def _times(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))

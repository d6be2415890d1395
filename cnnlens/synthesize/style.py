"""Style transfer: what one picture shows, in the manner of another.

Minimizes, over pictures x in [0, 1],

    α · ‖Φ_c(x) − Φ_c(p)‖²/‖Φ_c(p)‖²  +  β · mean over l of ‖G_l(x) − G_l(a)‖²/‖G_l(a)‖²

with the maps Φ_c (C, H, W) of content layers and the Gram matrices G_l = Φ_l Φ_lᵀ / (C·H·W) of
style layers; p is the content, a the style. Both sums are relative, so that their weights mean the
same on any network: 1 is a picture that has nothing in common with its aim. Searched as `invert`
searches, by L-BFGS in the Fourier code.

    for step in transfer(model, content, style, content_layers, layers, StyleSettings()):
        ...
    step.image()     # (C, h, w) in [0, 1]

References
----------
Eq. (22) of the survey by Qin et al. (2018), §7.3; Gatys, Ecker and Bethge: A Neural Algorithm of
Artistic Style, 2016, whose sums are not relative.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cnnlens.errors import CnnlensError
from cnnlens.model.device import is_memory_error
from cnnlens.model.gradients import with_gradients
from cnnlens.model.layer import Layer
from cnnlens.model.layers import Layers
from cnnlens.model.model import Model
from cnnlens.model.streams import look_every
from cnnlens.settings.synthesize import StyleSettings
from cnnlens.synthesize.image import Fourier
from cnnlens.synthesize.invert import BETA, ROUNDING, SHARE, input_plane
from cnnlens.synthesize.lbfgs import LBFGS
from cnnlens.synthesize.objective import Objective, custom, read_images
from cnnlens.synthesize.optimize import generators, optimize
from cnnlens.synthesize.regularize import Penalty, total_variation
from cnnlens.synthesize.slope import Recipe

# where VGG's papers look: the first convolution of each block, and the second of the fourth
_VGG_STYLE = {13: (1, 3, 5, 8, 11), 16: (1, 3, 5, 9, 13)}  # by the number of convolutions
_VGG_CONTENT = {13: 9, 16: 10}  # conv4_2
_NOISE = 0.01  # deviation of the code that a search from noise starts with


@dataclass(frozen=True)
class Losses:
    """How far a picture is from its two aims; 0 is reached, 1 has nothing in common.

    Attributes
    ----------
    content, style : float
        The two sums of the module's formula, without their weights.
    """

    content: float
    style: float


@dataclass(frozen=True)
class Transfer:
    """Where the search stands.

    Attributes
    ----------
    number, total : int
        Passes through the network done, and to be done at most.
    standing : torch.Tensor
        What `loss` is read from, when somebody asks.
    image : callable
        Gives that picture, (C, h, w) in [0, 1]; nothing is computed before.
    losses : callable
        Gives its losses, by one more pass.
    """

    number: int
    total: int
    standing: Tensor
    image: Callable[[], Tensor]
    losses: Callable[[], Losses]

    @property
    def loss(self) -> float:
        """What is minimized, of the best picture so far, with its total variation. Never rises."""
        return -float(self.standing[0, 0])


def content_and_style_layers(layers: Layers, arch: str) -> tuple[list[str], list[str], str]:
    """Choose where content and style are read: the papers' places on VGG, else evenly spaced ones.

    Returns
    -------
    list of str, list of str, str
        Aliases of the content layer and of five style layers, and a line that says what was chosen.
    """
    aliases = [layer.alias for layer in layers.rows if layer.alias]
    if not aliases:
        raise CnnlensError("the network has no convolution", "style transfer needs some")
    count = len(aliases)
    if "vgg" in arch and count in _VGG_STYLE:
        style = [f"conv{n}" for n in _VGG_STYLE[count]]
        return [f"conv{_VGG_CONTENT[count]}"], style, "content conv4_2, style conv1_1 … conv5_1"
    # the last fifth of a network knows classes rather than looks
    at = {round(i * (count - 1) * 0.8 / 4) for i in range(5)}
    style = [aliases[i] for i in sorted(at)]
    content = aliases[round((count - 1) * 0.55)]
    return [content], style, f"content {content}, style {', '.join(style)}: evenly spaced"


def picture(model: Model, image: Image.Image | np.ndarray, side: int = 0) -> Tensor:
    """Bring an image to what `transfer` takes.

    Parameters
    ----------
    model : Model
        Whose channels it gets.
    image : PIL.Image.Image or numpy.ndarray
        RGB or L; of bands (C, h, w) float32 in units of [0, 1].
    side : int
        Its shorter side then, in pixels; 0: that of the network's input. Proportions are kept.

    Returns
    -------
    torch.Tensor
        (C, h, w) in [0, 1].
    """
    side = side or min(model.preprocess.size)
    if isinstance(image, Image.Image):
        array = np.array(_sized(image, side))
        planes = array.reshape(*array.shape[:2], -1).transpose(2, 0, 1).copy()  # (c, h, w)
    elif min(image.shape[1:]) == side:
        planes = image
    else:
        bands = [np.asarray(_sized(Image.fromarray(band), side)) for band in image]
        planes = np.stack(bands).clip(0, 1)  # resampling overshoots
    return input_plane(model, torch.from_numpy(planes))


def _sized(image: Image.Image, side: int) -> Image.Image:
    factor = side / min(image.size)
    return image.resize((round(image.width * factor), round(image.height * factor)))


def gram(maps: Tensor) -> Tensor:
    """Gram matrix (C, C) of maps (C, H, W), over C·H·W."""
    flat = maps.flatten(1)  # (C, HW)
    return flat @ flat.T / flat.numel()


def relative(found: Tensor, wanted: Tensor) -> Tensor:
    """‖found − wanted‖²/‖wanted‖², a number."""
    return (found - wanted).square().sum() / wanted.square().sum()


def aims(
    model: Model,
    content: Tensor,
    style: Tensor,
    content_layers: Sequence[Layer],
    style_layers: Sequence[Layer],
) -> tuple[Objective, Objective]:
    """Objectives: less the distance from a content (C, h, w) and from a style (C, h', w').

    Raises
    ------
    CnnlensError
        Where the network does not run on one of the two pictures at its size, or a layer answers
        nothing to it, or not with finite numbers.
    """
    contents = _answers(model, content, content_layers, "content")
    grams = [gram(maps) for maps in _answers(model, style, style_layers, "style")]

    def content_value(*maps: Tensor) -> Tensor:
        return -torch.stack([relative(a, b) for a, b in zip(maps, contents, strict=True)]).mean()

    def style_value(*maps: Tensor) -> Tensor:
        return -torch.stack([relative(gram(a), b) for a, b in zip(maps, grams, strict=True)]).mean()

    return (
        custom(content_layers, content_value, "content"),
        custom(style_layers, style_value, "style"),
    )


def _answers(model: Model, picture: Tensor, layers: Sequence[Layer], what: str) -> list[Tensor]:
    with torch.no_grad():
        x = model.preprocess.normalize(picture.to(model.device)[None])  # (1, C, h, w)
        with _taken(x, what):
            reading = read_images(model, [layer.place for layer in layers], x)[0]
    found = [reading[layer.place].detach() for layer in layers]
    for layer, maps in zip(layers, found, strict=True):
        if not bool(maps.isfinite().all()) or not bool(maps.any()):
            raise CnnlensError(
                f"{layer.name} answers nothing, or nothing finite, to the {what} image",
                f"name other layers with --{what}-layer, or another image",
            )
    return found


@contextmanager
def _taken(x: Tensor, what: str) -> Iterator[None]:
    """Say which picture (1, C, h, w), at which size, the network does not run on in this block."""
    size = f"the {what} image at {x.shape[3]}×{x.shape[2]}"
    try:
        yield
    except CnnlensError:
        raise
    except Exception as error:
        if is_memory_error(error):
            raise CnnlensError(
                f"not enough memory on {x.device} for {size}", "use a smaller --size"
            ) from error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CnnlensError(
            f"the network does not run on {size}: {reason}",
            "another --size may help; where one size alone is taken, images of its proportions",
        ) from error


@with_gradients
def transfer(
    model: Model,
    content: Tensor,
    style: Tensor,
    content_layers: Sequence[Layer],
    style_layers: Sequence[Layer],
    settings: StyleSettings,
) -> Iterator[Transfer]:
    """Search for a picture with the content of one and the style of another.

    Parameters
    ----------
    model : Model
        The network; it must accept inputs of the content's size up to the deepest layer.
    content, style : torch.Tensor
        (C, h, w) and (C, h', w') in [0, 1].
    content_layers, style_layers : sequence of Layer
        Where each is read.
    settings : StyleSettings
        Weights, steps, start, seed.

    Yields
    ------
    Transfer
        After every pass; the first one is the start. Ends early where no step is better any more.

    Raises
    ------
    CnnlensError
        Where a layer answers nothing to one of the pictures, or memory does not suffice.
    """
    sized = replace(
        model, preprocess=replace(model.preprocess, size=(content.shape[1], content.shape[2]))
    )
    of_content, of_style = aims(sized, content, style, content_layers, style_layers)
    goal = settings.content_weight * of_content + settings.style_weight * of_style
    image = Fourier((content.shape[0], content.shape[1], content.shape[2]))
    randomness = generators(settings.seed, [goal])
    start = image.encode(content[None])
    if settings.init == "noise":
        start = image.noise(randomness, _NOISE)
    penalties = _smoothness(settings, style)
    rule = LBFGS(0.1)
    recipe = Recipe(settings.steps, penalties=penalties)

    for step in optimize(sized, [goal], image, start, randomness, recipe, rule):
        best = _Best(sized, of_content, of_style, image, rule)
        yield Transfer(step.done, step.total, rule.standing, best.image_of, best.losses)
        if step.done % look_every(model.device) == 0 and rule.is_done:
            return


def _smoothness(settings: StyleSettings, style: Tensor) -> tuple[Penalty, ...]:
    """Weigh the total variation: a picture as detailed as the style pays `SHARE` of its weight."""
    detail = max(float(total_variation(style[None], BETA)), ROUNDING)
    weight = settings.tv * SHARE * settings.style_weight / detail
    return (Penalty("tv", weight, lambda x: total_variation(x, BETA)),) if weight > 0 else ()


@dataclass(frozen=True)
class _Best:
    """The best picture so far, for those who ask."""

    model: Model
    content: Objective
    style: Objective
    image: Fourier
    rule: LBFGS

    def image_of(self) -> Tensor:
        with torch.no_grad():
            return self.image.decode(self.rule.accepted)[0]

    def losses(self) -> Losses:
        places = list(dict.fromkeys((*self.content.places, *self.style.places)))
        with torch.no_grad():
            x = self.model.preprocess.normalize(self.image_of()[None])
            reading = read_images(self.model, places, x)[0]
            return Losses(-float(self.content.value(reading)), -float(self.style.value(reading)))


def probe(model: Model, layers: Callable[[], Layers]) -> list[str]:
    """Say which layers are taken where no paper names them."""
    chosen = content_and_style_layers(layers(), model.arch)[2]
    return [chosen] if "evenly" in chosen else []

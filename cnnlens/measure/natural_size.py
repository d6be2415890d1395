"""The size of the images in the place of an input size that is only assumed.

A network of one's own code does not say how large its input is, and 224 is a guess: of images that
are all smaller it makes others. So both sizes are tried on some of them, and said.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import torch

from cnnlens.data.dataset import ImageSet
from cnnlens.data.decode import DamagedImage
from cnnlens.errors import CnnlensError
from cnnlens.model.classes import class_scores
from cnnlens.model.model import Model
from cnnlens.model.preprocess import Preprocess

_IMAGES = 32  # that are looked at


@dataclass(frozen=True)
class NaturalSize:
    """The images' own size, beside the assumed one.

    Attributes
    ----------
    size : (int, int)
        Height and width, in pixels.
    better : bool
        Whether the network answers better at it.
    note : str
        What was tried, for people.
    """

    size: tuple[int, int]
    better: bool
    note: str


def natural_size(model: Model, images: ImageSet) -> NaturalSize | None:
    """Try the images' own size, where the network's is assumed and all of them are smaller.

    Better is: right on more of them, where class folders are as many as the outputs (in
    alphabetical order); else surer, by the mean of the highest probability.

    Returns
    -------
    NaturalSize or None
        None where the assumed size stands.
    """
    assumed = model.preprocess
    if assumed.source != "assumed" or (size := _size(images, assumed.size)) is None:
        return None
    own = replace(assumed, size=size, resize=None)
    start = f"{images.name}'s images are {_words(size)}, and {_words(assumed.size)} is assumed: "
    ask = f"--image-size {size[0]}" + (f"x{size[1]}" if size[0] != size[1] else "")
    before, after = (_answers(model, images, one) for one in (assumed, own))
    if after is None:
        return NaturalSize(size, False, f"{start}the network does not run on {_words(size)}")
    if before is None:
        said = f"{start}it runs on {_words(size)} alone, which is taken (--image-size says others)"
        return NaturalSize(size, True, said)
    kind = 0 if before[0] is not None else 1
    what = ("right on {:.0%}", "sure by {:.0%}")[kind]
    better = (after[kind] or 0.0) > (before[kind] or 0.0)
    tried = (
        f"it is {what.format(after[kind])} of {_IMAGES} at most at {_words(size)}, "
        f"{what.format(before[kind])} at {_words(assumed.size)}"
    )
    end = f"{_words(size)} is taken (--image-size says others)" if better else f"{ask} takes theirs"
    return NaturalSize(size, better, f"{start}{tried}; {end}")


def _size(images: ImageSet, assumed: tuple[int, int]) -> tuple[int, int] | None:
    """The most frequent size of some images, where all are smaller than the assumed one."""
    sizes: Counter[tuple[int, int]] = Counter()
    for place in np.linspace(0, len(images.paths) - 1, min(_IMAGES, len(images.paths))):
        with suppress(DamagedImage):
            sizes[images.load(round(place)).size] += 1
    if not sizes or not all(w < assumed[1] and h < assumed[0] for w, h in sizes):
        return None
    width, height = sizes.most_common(1)[0][0]
    return height, width


def _answers(
    model: Model, images: ImageSet, preprocess: Preprocess
) -> tuple[float | None, float] | None:
    """Share that is right, where that can be known, and mean confidence; None where it fails."""
    places = [round(p) for p in np.linspace(0, len(images.paths) - 1, _IMAGES)]
    pixels = np.stack([images.pixels(place, preprocess) for place in dict.fromkeys(places)])
    x = torch.from_numpy(pixels)
    x = x.float() / 255 if x.dtype == torch.uint8 else x
    try:
        with torch.no_grad(), model.in_use():
            output = model.net(preprocess.normalize(x.to(model.device)))
        scores = class_scores(output, len(x), model.head)  # (N, K)
    except (RuntimeError, ValueError, CnnlensError):
        return None
    sure = float(scores.softmax(1).amax(1).mean())
    categories = images.image_categories
    names = sorted(set(categories or ()))
    if categories is None or len(names) != scores.shape[1]:
        return None, sure
    truth = torch.tensor([names.index(categories[place]) for place in dict.fromkeys(places)])
    return float((scores.argmax(1).cpu() == truth).float().mean()), sure


def _words(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"

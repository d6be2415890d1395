"""What a network is assumed to take and to say, asked of some of a data set's images.

The order of its classes: where only the order of class folders says which output is which, the
network's answers are held against it. The size of its input: a network of one's own code does not
say how large that is, and 224 is a guess, which makes others of images that are all smaller; so
both sizes are tried. What comes of it is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import torch

from cnnlens.activations.passes import Forward
from cnnlens.data.dataset import ImageSet
from cnnlens.data.decode import DamagedImage
from cnnlens.errors import CnnlensError, first_of
from cnnlens.model.class_order import Judged, check_order, chosen, judge
from cnnlens.model.classes import before_softmax, class_scores, count_scores, is_correct
from cnnlens.model.ending import before_link, before_sigmoid, link_of
from cnnlens.model.matching import Reading, in_order, readings, usual_outputs
from cnnlens.model.model import Model
from cnnlens.model.preprocess import Preprocess

_IMAGES = 32  # that are looked at, for the size
_PUBLISHED = ("torchvision:", "timm:")
_SURER = 0.02  # by which a size is better: of less, two sizes are alike


# ---- the order of classes


def named_after(
    model: Model,
    images: ImageSet,
    order: str | None,
    must: bool,
    batch_size: int,
    tell: Callable[[str], None],
) -> Model | None:
    """Name a network's outputs after the folders of one data set.

    Parameters
    ----------
    model : Model
        The network.
    images : ImageSet
        With categories; a few are looked at.
    order : str or None
        One of `settings.run.ORDERS` that was said; it is then not asked of the images.
    must : bool
        Whether a command holds just this data against the classes, and reads it in its usual
        order: that its images speak against that is raised. Names take more, for every command.
    batch_size : int
        Images in the network at once.
    tell : callable
        Hears what the outputs are called, or why they are not.

    Returns
    -------
    Model or None
        None where that cannot be, or nothing but chance speaks for it: random weights, and a
        network that is not right on more of them.

    Raises
    ------
    UsageError
        When `must`, and the images speak against their usual order.
    """
    categories = images.image_categories or ()
    names = sorted(set(categories))
    if len(names) < 2 or not (count := count_scores(model)):
        return None
    fits = len(names) == max(count, 2)  # one output has two classes, and the second's name
    if order is not None:
        if not fits:
            return None
        source = f"--classes {order}: {images.name}'s folders"
        return _called(model, in_order(names, order)[-count:], source, tell)
    ways = readings(names, model.classes, count)
    if not ways or ways[0].certain or not (fits or must):
        return None
    judged = _judged(model, images, ways, must, batch_size)
    if judged is None or not fits:  # folders that are called by numbers, of some of the classes
        return None
    if judged.doubt or not judged.is_above_chance or model.has_random_weights:
        read = "; they are read so here" if must else ""
        said = f"as {images.name}'s, {judged.words}{read}"
        tell(f"classes without names (--classes says them): {said}")
        return None
    numbers, words = ways[0].outputs, ways[0].words
    if model.classes:
        tell(f"ImageNet's names are not {images.name}'s: they are left out")
    source = f"the folders of {images.name} {words}"
    return _called(model, sorted(names, key=lambda name: numbers[name])[-count:], source, tell)


def _called(model: Model, names: list[str], source: str, tell: Callable[[str], None]) -> Model:
    first = first_of(names, 3)
    tell(f"classes: {source} ({first if len(names) > 1 else _lone(first)})")
    return model.called(names, source)


def _lone(name: str) -> str:
    return f"its one output says {name} above 0"


def foreign_names(model: Model, images: ImageSet) -> str:
    """Say how the classes of images are read; "" where they are called as the network's."""
    names, known = sorted(set(images.image_categories or ())), model.classes or []
    if not known or len(names) < 2 or not (count := count_scores(model)):
        return ""
    ways = readings(names, known, count)
    if not ways or ways[0].certain:
        return ""
    of, theirs = ways[0].outputs, ", ".join(known[:3])
    read = (
        f"read as its outputs {ways[0].words}" if count > 1 else _lone(max(of, key=of.__getitem__))
    )
    return f"the classes of {images.name} are not called as the network's ({theirs}): {read}"


def _judged(
    model: Model, images: ImageSet, ways: list[Reading], must: bool, batch_size: int
) -> Judged | None:
    """Hold ways to read the classes against some of the images; None where all are damaged."""
    logits, shown = _answers(model, images, batch_size)
    if not len(shown):
        return None
    if must and not model.has_random_weights:  # which know no other order
        check_order(ways, logits, shown, images.name)
    return judge(ways, logits, shown)


def _answers(model: Model, images: ImageSet, batch_size: int) -> tuple[np.ndarray, list[str]]:
    """What the network says of some images, (n, K), and their categories."""
    known, pixels, shown = images.image_categories or (), [], []
    for row in chosen(known):
        with suppress(DamagedImage):
            pixels.append(images.pixels(row, model.preprocess))
            shown.append(known[row])
    if not pixels:
        return np.empty((0, 0)), []
    forward = Forward(model, [], True, batch_size, before_sigmoid(model))
    _, logits = forward(torch.from_numpy(np.stack(pixels)))
    assert logits is not None
    return logits, shown


# ---- the size of the input


@dataclass(frozen=True)
class NaturalSize:
    """The images' own size, beside the assumed one.

    Attributes
    ----------
    size : (int, int)
        Height and width, in pixels.
    better : bool
        Whether the network answers better at it.
    found : str
        What was tried, for people.
    """

    size: tuple[int, int]
    better: bool
    found: str

    @property
    def note(self) -> str:
        """What was tried, and what comes of it where nothing stands in the way."""
        taken = f"{_by(self.size)} is taken (--image-size says others)"
        return f"{self.found}; {taken if self.better else f'{self.ask} takes theirs'}"

    @property
    def ask(self) -> str:
        """The option that says this size."""
        height, width = self.size
        return f"--image-size {height}" + (f"x{width}" if height != width else "")


@dataclass(frozen=True)
class _Tried:
    """How a network answers some images at one size: how many are right, where that is known."""

    images: int
    right: int | None
    sure: float

    def beats(self, other: _Tried, by_luck: bool) -> bool:
        """Whether this size is better; `by_luck`: of answers, by no more than luck may be."""
        if self.right is not None and other.right is not None:
            luck = 0 if by_luck else 2 * (self.right + other.right) ** 0.5
            return self.right - other.right > luck
        return self.sure > other.sure + _SURER

    def __str__(self) -> str:
        sure = f"sure by {self.sure:.0%}"
        return sure if self.right is None else f"right on {self.right} of {self.images}"


def natural_size(model: Model, images: ImageSet, order: str | None = None) -> NaturalSize | None:
    """Try the images' own size, where the network's is assumed and all of them are smaller.

    Better is: right on more of them, where folders mean classes of the network (see
    `matching.usual_outputs`); else surer by two points, by the mean of the highest probability.
    That grows by itself where maps shrink, so that of a published architecture, which was made for
    the assumed size, only answers that are right speak for another one, and by more than luck.
    Where `order` does not say how class folders are read, and no name does, each size is judged by
    the way of reading them that suits it best: at the wrong size an order tells nothing.

    Returns
    -------
    NaturalSize or None
        None where the assumed size stands.
    """
    assumed, places = model.preprocess, _spaced(images)
    sizes = _own_sizes(images, places)
    if not sizes or not all(w < assumed.size[1] and h < assumed.size[0] for w, h in sizes):
        return None
    (width, height), _ = sizes.most_common(1)[0]
    size = height, width
    own = replace(assumed, size=size, resize=None)
    are = "" if len(sizes) == 1 else "smaller, most often "
    start = f"{images.name}'s images are {are}{_by(size)}, and {_by(assumed.size)} is assumed"
    before, after = (_tried_at(model, images, places, one, order) for one in (assumed, own))
    if before is None and after is None:
        return None
    if after is None:
        return NaturalSize(size, False, f"{start}: the network does not run on {_by(size)}")
    if before is None:
        return NaturalSize(size, True, f"{start}: it runs on {_by(size)} alone")
    published = model.arch.startswith(_PUBLISHED)
    if published and (after.right is None or before.right is None):
        return NaturalSize(size, False, f"{start}, for which {model.arch} was made")
    found = f"{start}: it is {after} at {_by(size)}, {before} at {_by(assumed.size)}"
    return NaturalSize(size, after.beats(before, not published), found)


def _spaced(images: ImageSet) -> list[int]:
    places = np.linspace(0, len(images.paths) - 1, _IMAGES)
    return list(dict.fromkeys(round(place) for place in places))


def _own_sizes(images: ImageSet, places: list[int]) -> Counter[tuple[int, int]]:
    """Widths and heights of some images."""
    sizes: Counter[tuple[int, int]] = Counter()
    for place in places:
        with suppress(DamagedImage):
            sizes[images.load(place).size] += 1
    return sizes


def _tried_at(
    model: Model, images: ImageSet, places: list[int], preprocess: Preprocess, order: str | None
) -> _Tried | None:
    """Ask the network at one size; None where it fails."""
    categories, pixels, truth = images.image_categories or (), [], []
    for place in places:
        with suppress(DamagedImage):
            pixels.append(images.pixels(place, preprocess))
            truth.append(categories[place] if categories else "")
    if not pixels:
        return None
    x = torch.from_numpy(np.stack(pixels))
    x = x.float() / 255 if x.dtype == torch.uint8 else x
    try:
        with torch.no_grad(), model.in_use():
            x = preprocess.normalize(x.to(model.device))
            answer = class_scores(model.net(x), len(x), model.head)  # (N, K)
            given = answer.detach().cpu().numpy()  # its code may turn gradients on
        scores = before_link(given, link_of(model, given, x))
    except (RuntimeError, ValueError, CnnlensError):
        return None
    if scores.shape[1] == 1:
        shares = torch.from_numpy(scores).abs().sigmoid()
    else:
        shares = torch.from_numpy(before_softmax(scores)).softmax(1)
    sure = float(shares.amax(1).mean())
    ways = _ways(categories, model.classes, scores.shape[1], order)
    if not truth[0] or not ways or scores.shape[1] == 1:  # of which name its 0 is, is not said
        return _Tried(len(x), None, sure)
    wanted = [np.array([of.get(name, -1) for name in truth]) for of in ways]
    return _Tried(len(x), max(int(is_correct(scores, one).sum()) for one in wanted), sure)


def _ways(
    categories: Sequence[str], classes: Sequence[str] | None, count: int, order: str | None
) -> list[Mapping[str, int]]:
    """The outputs of categories, by all ways to read them that are open; none where none is."""
    names = in_order(categories, order) if order else []
    if len(names) == count:
        return [{name: number for number, name in enumerate(names)}]
    if classes is not None:
        said = usual_outputs(categories, classes, count)
        return [said] if said else []
    return [way.outputs for way in readings(categories, None, count)]


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"

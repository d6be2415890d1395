"""Which output of a network means which class of a data set: by name, by number, by order.

    ways = readings(["10", "2", "1"], None, 3)
    ways[0].outputs                      # {"1": 0, "10": 1, "2": 2}: as ImageFolder has it
    judge(ways, logits, categories).doubt

Where names say it, nothing is assumed. Where only an order does, images can be asked: a network
that is sure of itself and wrong under every order is one whose order is another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.model.class_names import imagenet_classes, imagenet_synsets
from cnnlens.settings.run import ORDERS

NATURAL = "natural"
NAMES = "names"
_FAR = 0.25  # share of the images by which an order that is far better explains more
_SURE = 0.6  # mean probability of the predicted class, from chance (0) to 1, of who is sure
_LUCKY = 6  # classes that no order gets right by luck: it gets one, on the average
_SAMPLE = 64  # images that an order is judged on, where there are few classes
_MOST = 128  # and where there are many


@dataclass(frozen=True)
class Reading:
    """One way to read a data set's classes as a network's outputs.

    Attributes
    ----------
    by : str
        `NAMES`, an order (``alphabetical``, ``natural``), ``number`` or ``number less one``.
    outputs : mapping of str to int
        The output of each class.
    """

    by: str
    outputs: Mapping[str, int]

    @property
    def words(self) -> str:
        """How a sentence says it: "in alphabetical order"."""
        return f"in {self.by} order" if self.by in ORDERS else f"by {self.by}"


# ---- by name


def plain(name: str) -> str:
    """Write a name as it is compared: in any case, with ``_`` and ``-`` for spaces."""
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def named_outputs(categories: Sequence[str], classes: Sequence[str]) -> dict[str, int]:
    """Find the outputs that are called after classes of a data set.

    Parameters
    ----------
    categories : sequence of str
        The data's: names, or WordNet ids of ImageNet's classes.
    classes : sequence of str
        Names of the outputs, each perhaps several that are joined by commas.

    Returns
    -------
    dict of str to int
        Those that are found, each by one output alone.
    """
    found: dict[str, list[int]] = {}
    for number, name in enumerate(classes):
        for part in dict.fromkeys(map(plain, (name, *name.split(",")))):
            found.setdefault(part, []).append(number)
    exact = {name: number for number, name in reversed(list(enumerate(classes)))}
    outputs = {}
    for category in categories:
        fits = found.get(plain(_in_words(category)), []) or found.get(plain(category), [])
        if category in exact:
            outputs[category] = exact[category]
        elif len(fits) == 1:
            outputs[category] = fits[0]
    return outputs


def _in_words(category: str) -> str:
    """The name of one of ImageNet's classes that is called by its WordNet id, else as it is."""
    known = re.match(r"n\d{8}(?![0-9])", category)
    number = imagenet_synsets().get(known[0]) if known else None
    return category if number is None else imagenet_classes()[number]


# ---- by order


def natural(name: str) -> list[tuple[int, int, str]]:
    """Key of the natural order, in which 2 comes before 10."""
    parts = re.split(r"(\d+)", name.casefold())
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts if p]


def in_order(categories: Sequence[str], order: str) -> list[str]:
    """Sort the classes of a data set: ``alphabetical``, as ImageFolder does, or ``natural``."""
    names = sorted(set(categories))
    return sorted(names, key=natural) if order == NATURAL else names


def readings(
    categories: Sequence[str], classes: Sequence[str] | None, outputs: int
) -> list[Reading]:
    """List the ways to read the classes of a data set as a network's outputs, the usual one first.

    Parameters
    ----------
    categories : sequence of str
        The data's.
    classes : sequence of str or None
        Names of the outputs, where they are known.
    outputs : int
        How many there are; a single one is read as two, of which it is the second.

    Returns
    -------
    list of Reading
        One by names where all are found, else by orders and numbers; empty where none fits.
    """
    names, outputs = sorted(set(categories)), max(outputs, 2)
    found = named_outputs(names, classes) if classes else {}
    if len(found) == len(names):
        return [Reading(NAMES, found)]
    if found:
        return []  # some are classes of the network, so the others are none
    ways = {}
    if len(names) == outputs:
        ways = {order: {n: i for i, n in enumerate(in_order(names, order))} for order in ORDERS}
    numbers = {name: int(name) for name in names if name.isdecimal() and name.isascii()}
    if len(set(numbers.values())) == len(names):
        ways["number"] = numbers
        ways["number less one"] = {name: number - 1 for name, number in numbers.items()}
    kept: list[Reading] = []
    for by, of in ways.items():
        inside = all(0 <= number < outputs for number in of.values())
        if inside and all(of != one.outputs for one in kept):
            kept.append(Reading(by, of))
    return kept


def category_of(
    number: int, classes: Sequence[str] | None, count: int, categories: Sequence[str]
) -> str | None:
    """Find the category of a data set that a class of the network means.

    Parameters
    ----------
    number : int
        The class.
    classes : sequence of str or None
        The network's class names, where they are known.
    count : int
        How many classes it has.
    categories : sequence of str
        The data's.

    Returns
    -------
    str or None
        The category of the class's name (or of one of its names, joined by commas), in any case,
        with ``_`` or ``-`` for spaces, or of its WordNet id. Without names, where there are as many
        categories as classes: the one of that number in alphabetical order; else the one that is
        called by that number. Else None.
    """
    means = usual_outputs(categories, classes, count)
    return next((name for name, output in means.items() if output == number), None)


def usual_outputs(
    categories: Sequence[str], classes: Sequence[str] | None, count: int
) -> Mapping[str, int]:
    """Find the output of each category that has one, as `category_of` reads them."""
    if classes is not None:
        return named_outputs(categories, classes)
    usual = readings(categories, None, count)
    return usual[0].outputs if usual else {}


# ---- asked of images


@dataclass(frozen=True)
class Judged:
    """What a network's answers say of every way to read the classes.

    Attributes
    ----------
    right : dict of str to float
        By the words of each reading, the share of images that are then classified rightly.
    best : float
        The same, of the one-to-one assignment of classes to outputs that explains most.
    sure : float
        How sure it is of what it predicts: 0 where all classes are as likely, 1 where one is
        certain.
    classes, images : int
        How many were looked at.
    """

    right: dict[str, float]
    best: float
    sure: float
    classes: int
    images: int

    @property
    def doubt(self) -> str:
        """Why the usual reading is not to be relied on, in words; empty where it is."""
        share, *others = self.right.values()
        more = max(others, default=0.0)
        sure = self.sure >= _SURE
        if more - share >= _FAR and (sure or more * self.classes >= _LUCKY):
            return self.words
        if sure and (self.best - share >= _FAR or not self.is_above_chance):
            return f"{self.words}, though the network is sure of itself"
        return ""

    @property
    def words(self) -> str:
        """How much every reading explains, in words."""
        (usual, share), *others = self.right.items()
        rest = "".join(f", {other} {more:.0%}" for other, more in others)
        return f"{usual} it is right on {share:.0%} of {self.images} images{rest}"

    @property
    def is_above_chance(self) -> bool:
        """Whether the usual reading explains more than guessing would."""
        chance, share = 1 / self.classes, next(iter(self.right.values()))
        return share > chance + 2 * (chance * (1 - chance) / self.images) ** 0.5


def judge(ways: Sequence[Reading], logits: np.ndarray, categories: Sequence[str]) -> Judged:
    """Hold ways to read the classes against what a network says of some images.

    Parameters
    ----------
    ways : sequence of Reading
        The usual one first.
    logits : numpy.ndarray
        (N, K); of one output, what is above 0 is the second class.
    categories : sequence of str
        (N,) the images' classes.
    """
    from scipy.optimize import linear_sum_assignment

    scores = np.concatenate([-logits, logits], 1) / 2 if logits.shape[1] == 1 else logits  # (N, K)
    said, count = scores.argmax(1), scores.shape[1]
    shifted = scores.astype(np.float64) - scores.max(1, keepdims=True)
    confidence = float((1 / np.exp(shifted).sum(1)).mean())
    names = sorted(set(categories))
    table = np.zeros((len(names), count))  # classes × outputs
    np.add.at(table, ([names.index(name) for name in categories], said), 1)
    rows, columns = linear_sum_assignment(table, maximize=True)
    return Judged(
        {
            way.words: float(np.mean(np.array([way.outputs[c] for c in categories]) == said))
            for way in ways
        },
        float(table[rows, columns].sum() / len(said)),
        (confidence - 1 / count) / (1 - 1 / count),
        len(names),
        len(said),
    )  # fmt: skip


def check_order(
    ways: Sequence[Reading],
    logits: np.ndarray,
    categories: Sequence[str],
    data: str,
    hint: str = (
        "say it with --classes FILE (one name per output, in order), or --classes natural or "
        "alphabetical: the folders in that order"
    ),
) -> Judged | None:
    """Stop where the usual reading of a data set's classes is none that its images bear out.

    Returns
    -------
    Judged or None
        How far they do; None where names leave nothing open.

    Raises
    ------
    UsageError
        When another explains far more, or none does though the network is sure of itself.
    """
    if not ways or ways[0].by == NAMES:
        return None
    judged = judge(ways, logits, categories)
    if doubt := judged.doubt:
        raise UsageError(f"which output is which class of {data} is not clear: {doubt}", hint)
    return judged


def chosen(categories: Sequence[str]) -> list[int]:
    """Choose images to judge an order on: as many of each class, evenly spaced, at most 128."""
    names = sorted(set(categories))
    each = max(1, min(16, _SAMPLE // len(names)))
    if len(names) > _MOST:
        names = [names[round(at)] for at in np.linspace(0, len(names) - 1, _MOST)]
    rows: dict[str, list[int]] = {name: [] for name in names}
    for number, category in enumerate(categories):
        if category in rows:
            rows[category].append(number)
    spaced = (sorted({round(at) for at in np.linspace(0, len(r) - 1, each)}) for r in rows.values())
    return sorted(
        row[at] for row, places in zip(rows.values(), spaced, strict=True) for at in places
    )


# ---- truth of labelled images


def target_outputs(
    categories: Sequence[str], classes: Sequence[str] | None, outputs: int
) -> np.ndarray:
    """Find the output that stands for each image's category.

    Parameters
    ----------
    categories : sequence of str
        One per image.
    classes : sequence of str or None
        Names of the model's outputs, where they are known.
    outputs : int
        Number of the model's outputs.

    Returns
    -------
    numpy.ndarray
        (N,) int64. By name where all categories are classes; else in the usual one of the
        `readings`. Of a single output, 1 for the category that it is named after (else the second
        one), 0 for the other.

    Raises
    ------
    CnnlensError
        When they do not fit.
    """
    names = sorted(set(categories))
    if outputs == 1 and len(names) == 2:
        positive = next((name for name in names if name in (classes or ())), names[1])
        return np.array([int(name == positive) for name in categories])
    ways = readings(names, classes, outputs)
    if not ways:
        known = named_outputs(names, classes or ())
        foreign = [name for name in names if name not in known]
        raise CnnlensError(
            f"the data's {len(names)} classes ({', '.join(foreign[:3])}, …) do not fit the "
            f"model's {outputs} outputs",
            "name class folders like the model's classes, have as many of them, or name the "
            "outputs with --classes FILE",
        )
    return np.array([ways[0].outputs[name] for name in categories])

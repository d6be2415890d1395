"""Which output of a network means which class of a data set: by name, by number, by order.

    ways = readings(["10", "2", "1"], None, 3)
    ways[0].outputs                      # {"1": 0, "10": 1, "2": 2}: as ImageFolder has it

Where names say it, nothing is assumed. Where only an order does, images can be asked (see
`class_order`).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cnnlens.errors import CnnlensError, counted, first_of
from cnnlens.model.class_names import imagenet_classes, imagenet_synsets
from cnnlens.model.numbered import numbered
from cnnlens.settings.run import ORDERS

NATURAL = "natural"
NAMES = "names"
LABELS = "their labels' numbers"
_NUMBERED = re.compile(r"^\d+[._ -]+(?=[^\d._ -])")  # folders of CUB and Caltech: 001.ak47


@dataclass(frozen=True)
class Reading:
    """One way to read a data set's classes as a network's outputs.

    Attributes
    ----------
    by : str
        `NAMES`, `LABELS` (see `numbered`), an order (``alphabetical``, ``natural``), ``number`` or
        ``number less one``.
    outputs : mapping of str to int
        The output of each class.
    """

    by: str
    outputs: Mapping[str, int]

    @property
    def certain(self) -> bool:
        """Whether names or labels say it, so that nothing is assumed."""
        return self.by in (NAMES, LABELS)

    @property
    def words(self) -> str:
        """How a sentence says it: "in alphabetical order"."""
        return f"in {self.by} order" if self.by in ORDERS else f"by {self.by}"


# ---- by name


def plain(name: str) -> str:
    """Write a name as it is compared: in any case, with ``_`` and ``-`` for spaces, its accents
    coded as one character (some systems write file names otherwise).
    """
    name = unicodedata.normalize("NFC", name)
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def named_outputs(categories: Sequence[str], classes: Sequence[str]) -> dict[str, int]:
    """Find the outputs that are called after classes of a data set.

    Parameters
    ----------
    categories : sequence of str
        The data's: names, or WordNet ids of ImageNet's classes. Where no name fits, a number before
        one of them is left out: ``001.Black_footed_Albatross``.
    classes : sequence of str
        Names of the outputs, each perhaps several that are joined by commas.

    Returns
    -------
    dict of str to int
        Those that are found, each by one output alone.
    """
    found = _by_name(classes)
    unnumbered = _by_name([_NUMBERED.sub("", name) for name in classes])
    times = Counter(classes)
    exact = {name: n for n, name in enumerate(classes) if times[name] == 1}
    first = _first_of_imagenet(classes) if any(map(_synset, categories)) else None
    outputs = {}
    for category in categories:
        synset = _synset(category)
        words = category if synset is None else imagenet_classes()[synset]
        bare = _NUMBERED.sub("", category)
        tried = (found, words), (found, category), (found, bare), (unnumbered, words)
        fits = next((fit for known, name in tried if (fit := known.get(plain(name)))), [])
        if category in exact:
            outputs[category] = exact[category]
        elif synset is not None and first is not None:
            outputs[category] = first + synset
        elif words in exact:  # "Cardigan" is a dog, "cardigan" a garment
            outputs[category] = exact[words]
        elif len(fits) == 1:
            outputs[category] = fits[0]
    return outputs


def named_alone(categories: Sequence[str], classes: Sequence[str]) -> str | None:
    """Find the only one of a data set's classes that some output is called after; None where there
    is none, or several.
    """
    exact = [name for name in categories if name in classes]
    found = exact or [*named_outputs(categories, classes)]
    return found[0] if len(found) == 1 else None


def _by_name(classes: Sequence[str]) -> dict[str, list[int]]:
    """The outputs of each name, as names are compared; also of each of several in one."""
    found: dict[str, list[int]] = {}
    for number, name in enumerate(classes):
        for part in dict.fromkeys(map(plain, (name, *name.split(",")))):
            found.setdefault(part, []).append(number)
    return found


def _synset(category: str) -> int | None:
    """The number of one of ImageNet's classes that begins with its WordNet id, else None."""
    known = re.match(r"n\d{8}(?![0-9])", category)
    return imagenet_synsets().get(known[0]) if known else None


def _first_of_imagenet(classes: Sequence[str]) -> int | None:
    """The output of ImageNet's first class where most of a thousand are called, in its order, by a
    word of its names (another may stand before them, for the background); else None.

    Some names stand for two classes, a bird and a machine, which their places tell apart.
    """
    names, first = imagenet_classes(), len(classes) - len(imagenet_synsets())
    if first not in (0, 1):
        return None
    pairs = zip(names, classes[first:], strict=True)
    alike = sum(not _words(name).isdisjoint(_words(called)) for name, called in pairs)
    return first if 2 * alike > len(names) else None


def _words(name: str) -> set[str]:
    return set(re.findall(r"\w+", plain(name)))


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
        One by names where all are found, or by the numbers of labels that tell of as many classes
        as there are outputs; else by orders and numbers; empty where none fits.
    """
    names, outputs = sorted(set(categories)), max(outputs, 2)
    found = named_outputs(names, classes) if classes else {}
    if len(found) == len(names):
        return [Reading(NAMES, found)]
    label = _by_labels(names, outputs)
    if label and label.certain and found.items() <= label.outputs.items():
        return [label]
    if found:
        return []  # some are classes of the network, so the others are none
    ways = {}
    if len(names) == outputs:
        orders = (NATURAL,) if _are_numbers(names) else ORDERS
        ways = {order: {n: i for i, n in enumerate(in_order(names, order))} for order in orders}
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


def _by_labels(names: Sequence[str], outputs: int) -> Reading | None:
    """Read classes by the numbers of their labels, where these are outputs: for certain where they
    tell of as many classes.
    """
    known = numbered(names)
    if known is None or not all(0 <= number < outputs for number in known.outputs.values()):
        return None
    if known.span == outputs:
        return Reading(LABELS, known.outputs)
    return Reading("number", known.outputs) if _are_numbers(names) else None


def _are_numbers(names: Sequence[str]) -> bool:
    """Whether these are labels that nothing names, which have no alphabetical order."""
    known = numbered(names)
    return known is not None and all(name == str(n) for name, n in known.outputs.items())


def usual_outputs(
    categories: Sequence[str], classes: Sequence[str] | None, count: int
) -> Mapping[str, int]:
    """Find the output of each category that has one, also by an order that nothing says.

    Parameters
    ----------
    categories : sequence of str
        The data's.
    classes : sequence of str or None
        The network's class names, where they are known.
    count : int
        How many classes it has.

    Returns
    -------
    mapping of str to int
        That of `said_outputs` where the network has names. Without names, where there are as many
        categories as classes: their places in alphabetical order; else the numbers that they are
        called by.
    """
    if classes is not None:
        return said_outputs(categories, classes, count)
    usual = readings(categories, None, count)
    return usual[0].outputs if usual else {}


def said_outputs(
    categories: Sequence[str], classes: Sequence[str] | None, count: int
) -> Mapping[str, int]:
    """Find the output of each category whose name or label says it, so that no order is assumed.

    A name is the class's, or one of those joined by commas in it, in any case, with ``_`` or ``-``
    for spaces, or its WordNet id. See `usual_outputs` for the parameters.
    """
    label = _by_labels(categories, max(count, 2))
    return named_outputs(categories, classes or ()) or (label.outputs if label else {})


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
        one, by the labels' numbers or in alphabetical order), 0 for the other.

    Raises
    ------
    CnnlensError
        When they do not fit.
    """
    names = sorted(set(categories))
    if outputs == 1 and len(names) == 2:
        label = _by_labels(names, 2)
        second = max(label.outputs, key=label.outputs.__getitem__) if label else names[1]
        positive = named_alone(names, classes or ()) or second
        return np.array([int(name == positive) for name in categories])
    ways = readings(names, classes, outputs)
    if not ways:
        known = named_outputs(names, classes or ())
        foreign = sorted(names, key=known.__contains__)  # those that are none of the model's first
        raise CnnlensError(
            f"the data's {len(names)} classes ({first_of(foreign, 3)}) do not fit the "
            f"model's {counted(outputs, 'output')}",
            "name class folders like the model's classes, have as many of them, or name the "
            "outputs with --classes FILE",
        )
    return np.array([ways[0].outputs[name] for name in categories])

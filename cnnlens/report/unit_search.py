"""Units by what they are called: those whose names hold some words, or mean much the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnlens.data.word_vectors import directions
from cnnlens.errors import CnnlensError, UsageError, did_you_mean
from cnnlens.model.encoder import Encoder
from cnnlens.report.unit_names import Name, names_of


@dataclass(frozen=True)
class Hit:
    """A unit that was found.

    Attributes
    ----------
    layer, unit : str, int
        Which one.
    name : Name
        That of its names which fits best.
    fit : float
        By words: the share of them that the name holds. By an encoder: the cosine of the name's
        vector and the text's.
    """

    layer: str
    unit: int
    name: Name
    fit: float

    @property
    def rank(self) -> tuple[float, ...]:
        """Orders hits: what fits best first, short names before long ones, then as names go."""
        return -self.fit, len(self.name.text.split()), *self.name.rank


def search(
    workspace: Path, text: str, layers: Sequence[str] = (), encoder: Encoder | None = None
) -> list[Hit]:
    """Find units by their names of all methods, the best first.

    Parameters
    ----------
    workspace : pathlib.Path
        Whose units.
    text : str
        What they shall be called.
    layers : sequence of str
        As typed when they were named; none: all.
    encoder : Encoder, optional
        Says how near names come to the text; without one they have to hold its words.

    Returns
    -------
    list of Hit
        With an encoder every unit that has a name, else those whose names hold a word.

    Raises
    ------
    UsageError
        When `text` says nothing.
    CnnlensError
        When no unit has a name, or not one of those layers.
    """
    if not text.split():
        raise UsageError("there is nothing to search for", 'say some words, such as "car wheel"')
    known = names_of(workspace)
    if not known:
        raise CnnlensError(
            f"no unit in {workspace} has a name", "name some with cnnlens dissect or cnnlens label"
        )
    for layer in layers:
        if layer not in known:
            raise CnnlensError(f"no units of {layer} have names", did_you_mean(layer, [*known]))
    named = [
        (layer, unit, name)
        for layer, units in known.items()
        if not layers or layer in layers
        for unit, names in units.items()
        for name in names
    ]
    fits = _by_words(text, named) if encoder is None else _by_vectors(text, named, encoder)
    best: dict[tuple[str, int], Hit] = {}
    for (layer, unit, name), fit in zip(named, fits, strict=True):
        hit = Hit(layer, unit, name, fit)
        if (encoder is not None or fit) and (
            (layer, unit) not in best or hit.rank < best[layer, unit].rank
        ):
            best[layer, unit] = hit
    return sorted(best.values(), key=lambda hit: hit.rank)


_DENIED = re.compile(r"\bNOT (?:\([^()]*\)|[^()]*?(?= AND | OR |\)|$))")  # by a formula
_Named = Sequence[tuple[str, int, Name]]


def _by_words(text: str, named: _Named) -> list[float]:
    """Give shares of the words that names hold, one or many of them: "cars" finds "car", too."""
    sought = [_one_or_many(word) for word in text.split()]
    said = [_DENIED.sub("", name.text) for _, _, name in named]
    return [sum(bool(word.search(one)) for word in sought) / len(sought) for one in said]


def _one_or_many(word: str) -> re.Pattern[str]:
    """Match a word in the singular and the plural, whichever of them it is."""
    forms, low = {word}, word.casefold()
    if len(word) > 3 and low.endswith("s") and not low.endswith("ss"):
        forms.add(word[:-1])
    if len(word) > 4 and low.endswith("es"):
        forms.add(word[:-2])
    if low.endswith("ies"):
        forms.add(f"{word[:-3]}y")
    if low.endswith("y"):
        forms.add(f"{word[:-1]}ies")
    any_of = "|".join(map(re.escape, sorted(forms)))
    return re.compile(rf"(?<!\w)(?:{any_of})(?:s|es)?(?!\w)", re.IGNORECASE)


def _by_vectors(text: str, named: _Named, encoder: Encoder) -> list[float]:
    """Cosines of the text with every name, each encoded once."""
    texts = list(dict.fromkeys(name.text for _, _, name in named))
    vectors = directions(encoder.of_texts([text, *texts]), [text, *texts], encoder.spec)
    fit: dict[str, np.ndarray] = dict(zip(texts, vectors[1:] @ vectors[0], strict=True))
    return [float(fit[name.text]) for _, _, name in named]


def _scored(name: Name) -> str:
    """Say how good a name is; of a dissected unit also whether it counts as a detector."""
    if name.score is None:
        return ""
    verdict = {True: ", a detector", False: ", no detector", None: ""}[name.is_detector]
    return f"{name.measure} {name.score:.2f}{verdict}"


def hits_table(found: Sequence[Hit], by_meaning: bool) -> tuple[list[str], list[list[object]]]:
    """Heads and rows of units that were found; without columns that tell none from another."""
    columns: dict[str, list[object]] = {
        "unit": [f"{one.layer}:{one.unit}" for one in found],
        "name": [one.name.text for one in found],
        "from": [one.name.source for one in found],
    }
    if any(one.name.score is not None for one in found):
        columns["score"] = [_scored(one.name) for one in found]
    if by_meaning or len({one.fit for one in found}) > 1:
        columns["fit"] = [one.fit for one in found]
    if any(one.name.verdict for one in found):
        columns["exam"] = [one.name.verdict for one in found]
    return [*columns], [list(row) for row in zip(*columns.values(), strict=True)]

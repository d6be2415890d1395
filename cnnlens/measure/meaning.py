"""What a label says: a concept, a weighted sum of some, or a formula of them.

read_meaning("(car OR bus) AND NOT road", known)
read_meaning("bird + animal", known)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnlens.errors import CnnlensError, did_you_mean

_WORDS = re.compile(r"\b(AND|OR|NOT)\b")


@dataclass(frozen=True)
class Meaning:
    """A weighted sum of concepts, or a formula.

    Attributes
    ----------
    terms : tuple of (str, float)
        The concepts with their weights, all of them 1 in a formula.
    formula : tuple or None
        Nested: a concept's name, ``("not", a)``, ``("and", a, b)``, ``("or", a, b)``.
    """

    terms: tuple[tuple[str, float], ...]
    formula: Any = None

    @property
    def concepts(self) -> list[str]:
        """What it is made of."""
        return [name for name, _ in self.terms]

    @property
    def canonical(self) -> Any:
        """Equal for formulas that differ in nothing but the order of what AND and OR join."""
        if self.formula is None:
            return self.terms if len(self.terms) > 1 else self.terms[0][0]
        return _ordered(self.formula)

    def where(
        self, of: Callable[[str], np.ndarray], is_told: Callable[[str], bool] = lambda name: True
    ) -> np.ndarray:
        """Say where it is there, of where its concepts are: any of a sum, or as a formula says.

        NOT of a concept holds nowhere if it is not told where that is.
        """
        if self.formula is not None:
            return _evaluated(self.formula, of, is_told)
        found: np.ndarray = np.any([of(name) for name in self.concepts], axis=0)
        return found


def _evaluated(
    formula: Any, of: Callable[[str], np.ndarray], is_told: Callable[[str], bool]
) -> np.ndarray:
    if isinstance(formula, str):
        return of(formula)
    word, *parts = formula
    values = [_evaluated(part, of, is_told) for part in parts]
    if word == "not":
        unknown = not all(map(is_told, _leaves(formula)))
        return np.zeros_like(values[0]) if unknown else ~values[0]
    return values[0] & values[1] if word == "and" else values[0] | values[1]


def _ordered(formula: Any) -> Any:
    if isinstance(formula, str):
        return formula
    word, *parts = formula
    if word == "not":
        return word, _ordered(parts[0])
    return word, frozenset(_joined(formula, word))


def _joined(formula: Any, word: str) -> Iterator[Any]:
    """All that one AND or OR joins, however it is bracketed."""
    for part in formula[1:]:
        if not isinstance(part, str) and part[0] == word:
            yield from _joined(part, word)
        else:
            yield _ordered(part)


def read_meaning(label: str, known: Mapping[str, str]) -> Meaning:
    """Read a label: a known concept, else a sum ``a + b``, else a formula with AND, OR and NOT.

    `known` gives concepts by all that they are called; their case does not matter.

    Raises
    ------
    CnnlensError
        When it names what is not known, or is no formula.
    """
    names = {name.casefold(): concept for name, concept in known.items()}

    def concept(text: str) -> str:
        if (name := names.get(text.strip().casefold())) is None:
            raise CnnlensError(
                f"no concept '{text.strip()}'", did_you_mean(text.strip(), list(known))
            )
        return name

    if label.strip().casefold() in names:
        return Meaning(((concept(label), 1.0),))
    parts = label.split(" + ")
    if not _WORDS.search(label) or all(part.strip().casefold() in names for part in parts):
        return Meaning(tuple((concept(part), 1.0) for part in parts))
    formula = _Parser(list(_words(label, names)), concept).whole()
    return Meaning(tuple((name, 1.0) for name in dict.fromkeys(_leaves(formula))), formula)


def _words(label: str, names: Collection[str]) -> Iterator[str]:
    """Cut a formula into words, parentheses and concepts, which may hold parentheses themselves."""
    for part in _WORDS.split(label):
        text, after = part.strip(), 0
        while text.casefold() not in names and text[:1] == "(":
            yield "("
            text = text[1:].strip()
        while text.casefold() not in names and text[-1:] == ")":
            text, after = text[:-1].strip(), after + 1
        yield from [text] if text else []
        yield from ")" * after


def _leaves(formula: Any) -> Iterator[str]:
    if isinstance(formula, str):
        yield formula
    else:
        for part in formula[1:]:
            yield from _leaves(part)


class _Parser:
    """Reads a formula; AND binds before OR, NOT before both."""

    def __init__(self, words: list[str], concept: Callable[[str], str]) -> None:
        self._words, self._concept, self._all = words[::-1], concept, " ".join(words)

    def whole(self) -> Any:
        found = self._either()
        if self._words:
            raise self._fault()
        return found

    def _next(self, *words: str) -> bool:
        if self._words and self._words[-1] in words:
            self._words.pop()
            return True
        return False

    def _either(self) -> Any:
        found = self._both()
        while self._next("OR"):
            found = ("or", found, self._both())
        return found

    def _both(self) -> Any:
        found = self._one()
        while self._next("AND"):
            found = ("and", found, self._one())
        return found

    def _one(self) -> Any:
        if self._next("NOT"):
            return ("not", self._one())
        if self._next("("):
            found = self._either()
            if not self._next(")"):
                raise self._fault()
            return found
        if not self._words or self._words[-1] in (")", "AND", "OR"):
            raise self._fault()
        return self._concept(self._words.pop())

    def _fault(self) -> CnnlensError:
        return CnnlensError(
            f"'{self._all}' is no formula", "write it like (car OR bus) AND NOT road"
        )

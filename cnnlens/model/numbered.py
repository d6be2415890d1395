"""Classes that labels call by numbers, as PyTorch's do: a number is the output that stands for it.

    numbered_outputs([OutputName("cat", 1), OutputName("dog", 0)], 2)      # {"cat": 1, "dog": 0}

A folder that is called by a number says less: what is read of folders is their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


class OutputName(str):
    """The name of a class, which is its number's text where nothing names it.

    Attributes
    ----------
    number : int
        The label.
    classes : int or None
        How many classes its data set names; None where it names none.
    """

    number: int
    classes: int | None

    def __new__(cls, text: str, number: int, classes: int | None = None) -> OutputName:
        """Make the name of a label."""
        name = super().__new__(cls, text)
        name.number, name.classes = number, classes
        return name

    def __getnewargs__(self) -> Any:
        """What another process makes it of."""
        return str(self), self.number, self.classes


@dataclass(frozen=True)
class Numbered:
    """Outputs of classes by the numbers of their labels.

    Attributes
    ----------
    outputs : dict of str to int
        The output of each class.
    span : int
        How many classes the numbers tell of.
    """

    outputs: dict[str, int]
    span: int


def numbered(categories: Iterable[str]) -> Numbered | None:
    """Read classes by the numbers of their labels; None where some have none."""
    numbers: dict[str, int] = {}
    named: int | None = None
    for category in categories:
        if not isinstance(category, OutputName):
            return None
        numbers[category], named = category.number, category.classes
    if not numbers:
        return None
    return Numbered(numbers, max(numbers.values()) + 1 if named is None else named)


def written(categories: Sequence[str]) -> str:
    """Write out all that is known of images' classes, for what is told apart by it."""
    known = numbered(categories)
    return "\0".join([*categories, *([f"{known}"] if known else [])])

"""A setting and its option on the command line: default, words, bounds and choices in one place.

    top: int = option(9, "Images per unit, by activation.", least=1)
    method: str = option("deconvnet", "What a rectifier does.", choices=("deconvnet", "guided"))

From such fields the door generates typer's signature, `Investigation` its keywords, and `Settings`
its checks. What several methods ask for is declared here, once.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from keyword import iskeyword
from pathlib import Path
from typing import Any

from cnnlens.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class Option:
    """The words and limits of one field.

    Attributes
    ----------
    help : str
        What it says, in a line or two.
    name : str
        Its option's name without dashes, where that is not the field's.
    short : str
        Its letter.
    metavar : str
        What stands for its value; left out: the choices, else N or X.
    choices : tuple of str
        All that it may be; empty: anything.
    least, most, above, below : float or None
        Bounds of a number, inclusive and exclusive.
    hint : str
        The way out of a value that does not fit.
    panel : str
        The heading it stands under in ``--help``.
    off : str
        The name of a switch's other side; left out: ``no-NAME``.
    shown : str
        What ``--help`` says of the default, where the value itself says little.
    argument : bool
        Whether it is named by its place on the command line, not by a flag.
    words : bool
        Whether Python may give a tuple of words in a word's place.
    """

    help: str
    name: str = ""
    short: str = ""
    metavar: str = ""
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    hint: str = ""
    panel: str = "Method"
    off: str = ""
    shown: str = ""
    argument: bool = False
    words: bool = False

    def check(self, flag: str, value: Any) -> None:
        """Raise UsageError where a value does not fit; None means the preset's and fits."""
        if value is None:
            return
        if self.choices and value not in self.choices:
            known = did_you_mean(str(value), self.choices)
            choose = f"choose {_listed(self.choices)}"
            raise UsageError(
                f"{flag} {value} is not known", self.hint or (f"{known} {choose}").strip()
            )
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            self._check_number(flag, value)

    def _check_number(self, flag: str, value: float) -> None:
        too_low = (self.least is not None and value < self.least) or (
            self.above is not None and value <= self.above
        )
        too_high = (self.most is not None and value > self.most) or (
            self.below is not None and value >= self.below
        )
        endless = isinstance(value, float) and not math.isfinite(value)
        if too_low or too_high or endless:
            raise UsageError(f"{flag} {value} is not {self._range()}", self.hint)

    def _range(self) -> str:
        low = self.least if self.above is None else self.above
        high = self.most if self.below is None else self.below
        if low is not None and high is not None:
            return f"between {low:g} and {high:g}"
        if self.above is not None:
            return f"above {self.above:g}"
        if low is not None:
            return f"at least {low:g}"
        return f"at most {high:g}" if self.below is None and high is not None else "a number"


def option(default: Any, help: str, **more: Any) -> Any:
    """Declare a field of a settings or inputs dataclass; keywords as in `Option`."""
    return dataclasses.field(default=default, metadata={"option": Option(help, **more)})


@dataclass(frozen=True)
class Field:
    """One declared field, as the faces need it: attribute, keyword, flag, type, default, words."""

    attribute: str
    type: type
    repeats: bool
    optional: bool
    default: Any
    option: Option

    @property
    def keyword(self) -> str:
        """Its name in Python: the option's, dashes become underscores; ``class_`` for ``class``."""
        name = (self.option.name or self.attribute).replace("-", "_")
        return f"{name}_" if iskeyword(name) else name

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return f"--{(self.option.name or self.attribute).replace('_', '-')}"

    @property
    def metavar(self) -> str:
        """What stands for a value."""
        usual = {int: "N", float: "X"}.get(self.type, "TEXT")
        return self.option.metavar or "|".join(self.option.choices) or usual

    def taken(self, value: Any) -> Any:
        """Return a value, or several, as Python has them; raise UsageError where one does not fit.

        What is taken is compared with what was taken before, and written as JSON.
        """
        if not self.repeats or value is None:
            return self._taken(value)
        if isinstance(value, (str, Path)) or not isinstance(value, Iterable):
            value = (value,)  # the letters of a word are not what was meant
        return tuple(map(self._taken, value))

    def _taken(self, value: Any) -> Any:
        found = self._of_kind(plain(value))
        self.option.check(self.flag, found)
        return found

    def _of_kind(self, value: Any) -> Any:
        """Switches where switches belong, words where words do: Python may give anything."""
        if value is None or self.type not in (bool, str):
            return self._as_number(value)
        if self.type is bool:
            if not isinstance(value, numbers.Integral) or value not in (0, 1):
                raise UsageError(f"{self.flag} {value!r} is neither True nor False")
            return bool(value)
        if self.option.words and isinstance(value, (list, tuple)):
            return tuple(value)
        if isinstance(value, str):
            return value
        if isinstance(value, (numbers.Real, Path)) and not isinstance(value, bool):
            return str(value)
        raise UsageError(f"{self.flag} {value!r} is no text", self.option.hint)

    def _as_number(self, value: Any) -> Any:
        """Numbers where numbers belong."""
        if value is None or self.type not in (int, float):
            return value
        if isinstance(value, numbers.Integral) and not isinstance(value, bool):
            return int(value)
        if self.type is float and isinstance(value, numbers.Real) and not isinstance(value, bool):
            with suppress(OverflowError):
                return float(value)
        kind = "whole number" if self.type is int else "number"
        raise UsageError(f"{self.flag} {value!r} is no {kind}", self.option.hint)


def plain(value: Any) -> Any:
    """Return a number of NumPy or PyTorch as Python has it; whatever else is given stays."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def take_values(declared: Any) -> None:
    """Check the values of a new dataclass whose fields were declared by `option`.

    Raises
    ------
    UsageError
        For one that does not fit.
    """
    for field in fields_of(type(declared)):
        found = field.taken(getattr(declared, field.attribute))
        object.__setattr__(declared, field.attribute, found)  # also of a frozen one


def fields_of(declared: type) -> list[Field]:
    """List the fields of a dataclass that were declared by `option`, in their order."""
    return list(_fields_of(declared))


@functools.cache  # every call would read the annotations anew
def _fields_of(declared: type) -> tuple[Field, ...]:
    hints = typing.get_type_hints(declared)
    found = []
    for field in dataclasses.fields(declared):
        if "option" in field.metadata:
            kind, repeats, optional = _kind(hints[field.name])
            option_ = field.metadata["option"]
            found.append(Field(field.name, kind, repeats, optional, field.default, option_))
    return tuple(found)


def values_of(declared: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Give the values of a dataclass's fields by attribute, of those `given` by keyword."""
    return {f.attribute: given[f.keyword] for f in fields_of(declared) if f.keyword in given}


def check_keywords(
    name: str, given: Mapping[str, Any], known: Sequence[Field], more: Sequence[str] = ()
) -> None:
    """Raise UsageError where something is `given` by a keyword that a function does not take."""
    names = [*(field.keyword for field in known), *more]
    for keyword in given:
        if keyword not in names:
            near = did_you_mean(keyword, names) or f"there are {', '.join(names)}"
            raise UsageError(f"{name} takes no keyword '{keyword}'", near)


def _kind(hint: Any) -> tuple[type, bool, bool]:
    """Type of one value, whether there may be several, and whether there may be none."""
    arguments = [a for a in typing.get_args(hint) if a is not type(None)]
    optional = type(None) in typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        kind, repeats, _ = _kind(arguments[0])
        return kind, repeats, optional
    if typing.get_origin(hint) is tuple:
        return arguments[0], True, False
    return hint, False, False


def _listed(choices: tuple[str, ...]) -> str:
    return " or ".join([", ".join(choices[:-1]), choices[-1]] if len(choices) > 1 else choices)


# ---- settings that several methods have, each written once


def quantile_option() -> Any:
    """``--quantile``: the share of a unit's activations that its mask keeps."""
    words = "Share of a unit's activations above its threshold."
    return option(0.005, words, above=0, below=1, metavar="SHARE", hint="try 0.005")


def seed_option() -> Any:
    """``--seed``."""
    return option(0, "Seed of everything random.", least=0, panel="Run")


def sizes_of(text: str, name: str, example: str, none: bool = False) -> list[int]:
    """Read sizes of sets of units from ``1,2,5``: ascending, each once.

    Raises
    ------
    UsageError
        When they are no whole numbers from 1 on, or there are none and that is not allowed.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    good = all(part.isascii() and part.isdecimal() and int(part) > 0 for part in parts)
    if not good or not (parts or none):
        raise UsageError(f"--{name} {text} are no numbers of units", f"write --{name} {example}")
    return sorted({int(part) for part in parts})

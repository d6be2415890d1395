"""The one kind of error a user can meet: a message that names the thing, and the way out."""

from __future__ import annotations

TYPE_CHECKING = False  # as typing has it, which may be a file of the user's (see __main__)
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class CnnlensError(Exception):
    """The data, the model or the machine were at fault (exit status 1).

    Parameters
    ----------
    message : str
        What went wrong and where, in one line without a full stop.
    hint : str
        What to do about it, in one line.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(CnnlensError):
    """The command was given something that does not exist or does not fit (exit status 2)."""

    exit_code = 2


def first_of(names: Sequence[str], most: int) -> str:
    """Name the first of several: ``"a, b, …"``; all of them where they are no more."""
    return ", ".join([*names[:most], *["…"] * (len(names) > most)])


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Name the nearest known words: ``"did you mean layer4?"``, empty when none is near."""
    import difflib

    near = difflib.get_close_matches(wrong, list(dict.fromkeys(known)), n=3, cutoff=0.5)
    return _offered(near)


def meant_file(wrong: str, beside: Iterable[str]) -> str:
    """The same of files and folders: a name's ending is near to every other one of its kind."""
    import difflib

    names: dict[str, list[str]] = {}
    for name in beside:
        names.setdefault(_stem(name), []).append(name)
    near = difflib.get_close_matches(_stem(wrong), names, n=3, cutoff=0.65)
    return _offered([name for stem in near for name in names[stem]][:3])


def _stem(name: str) -> str:
    """Everything before the ending, ".pt" or ".tar.gz"; all of ".git"."""
    return (name[:1] + name[1:].partition(".")[0]).casefold()


def _offered(near: list[str]) -> str:
    return f"did you mean {' or '.join(near)}?" if near else ""


def counted(number: int, noun: str, form: str = "") -> str:
    """Count things for people: "1 photo", "2 photos", "2 classes"; `form` is the number's."""
    many = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:{form}} {noun if number == 1 else many}"


def plain(value: float, digits: int = 3) -> str:
    """Write a number for people, thousands without a power of ten: "3830"."""
    short = f"{value:.{digits}g}"
    return f"{float(short):.0f}" if 1e3 <= abs(float(short)) < 1e6 and "e" in short else short

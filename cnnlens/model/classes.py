"""Classes by number or by name, as people type them."""

from __future__ import annotations

from collections.abc import Sequence

from cnnlens.errors import UsageError, did_you_mean


def find_class(text: str, names: Sequence[str] | None, count: int) -> int:
    """Find a class of a network.

    Parameters
    ----------
    text : str
        Its number, counted from 0, or its name, in any case; also one of several names that are
        joined by commas.
    names : sequence of str or None
        The network's class names, where they are known.
    count : int
        How many classes it has.

    Returns
    -------
    int
        The class's number.

    Raises
    ------
    UsageError
        When there is none, or several of that name; the nearest names are offered.
    """
    wanted = text.strip()
    names = list(names or [])
    found = _matching(wanted, names)
    if len(found) > 1:
        numbers = ", ".join(map(str, found))
        raise UsageError(f"{len(found)} classes are named '{wanted}'", f"give a number: {numbers}")
    if found:
        return found[0]
    if wanted.isdecimal():
        if int(wanted) < count:
            return int(wanted)
        raise UsageError(f"no class {wanted} in the network", f"its classes are 0 to {count - 1}")
    if not names:
        raise UsageError(
            f"no class '{wanted}': the names of the network's classes are not known",
            f"give a number, 0 to {count - 1}",
        )
    raise UsageError(f"no class '{wanted}' in the network", _near(wanted, names))


def class_name(number: int, names: Sequence[str] | None) -> str:
    """Return what to call a class: its name, else its number."""
    return names[number] if names and number < len(names) else str(number)


def _matching(wanted: str, names: list[str]) -> list[int]:
    """Classes of exactly that name; else in any case; else with it as one of their names."""
    folded = wanted.casefold()
    for fits in (
        lambda name: name == wanted,
        lambda name: name.casefold() == folded,
        lambda name: folded in [part.strip() for part in name.casefold().split(",")],
    ):
        if found := [number for number, name in enumerate(names) if fits(name)]:
            return found
    return []


def _near(wanted: str, names: list[str]) -> str:
    folded = {name.casefold(): name for name in names}
    inside = [name for low, name in folded.items() if wanted.casefold() in low][:3]
    if inside:
        return f"did you mean {' or '.join(inside)}?"
    near = did_you_mean(wanted.casefold(), folded)
    for low, name in folded.items():
        near = near.replace(low, name) if low in near else near
    return near or "a number works too, counted from 0"

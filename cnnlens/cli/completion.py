"""What a shell offers for a value: the words it may be; for all else the shell's own files."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

_WORD = re.compile(r"([a-z0-9-]+)(\[.*\])?")  # as typed, perhaps with something that may follow


def completing(values: str | Sequence[str]) -> Callable[[str], list[str]] | None:
    """Make the function that typer asks for values that begin as typed.

    Parameters
    ----------
    values : str or sequence of str
        All that it may be; or its metavar, which lists them: ``auto|cpu|cuda[:N]|mps``.

    Returns
    -------
    callable or None
        None where it may be something else, too (``FILE|imagenet``): a shell that is offered
        nothing offers files.
    """
    listed = values.split("|") if isinstance(values, str) else values
    words = [found[1] for one in listed if (found := _WORD.fullmatch(one))]
    if len(words) < len(listed):
        return None

    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete

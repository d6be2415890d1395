"""Colours of categories and of parts, the same on the page and in every figure, for all sight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Colour(NamedTuple):
    """A category's colour on a light and on a dark ground (both at least 3:1 against it)."""

    light: str
    dark: str


# After Okabe and Ito, darkened where their hues are too pale for a white page.
_KNOWN = {
    "object": Colour("#0072b2", "#5aa9e0"),
    "part": Colour("#3390c7", "#9ad4f5"),
    "scene": Colour("#008f68", "#2cc29a"),
    "material": Colour("#b07400", "#e8a71a"),
    "texture": Colour("#c95400", "#ff8a4c"),
    "color": Colour("#b0508c", "#e39cc3"),
}
_ALIASES = {
    "colour": "color",
    "shape": "object",
    "color-shape": "scene",
    "colors": "color",
    "shapes": "object",
}
_SPARE = (
    Colour("#5b4a9f", "#b0a3f0"),
    Colour("#6b6b6b", "#b5b5b5"),
    Colour("#7a5230", "#c9a27e"),
    Colour("#2f6f73", "#7fc7cb"),
)


def colours(categories: Sequence[str]) -> dict[str, Colour]:
    """Choose a colour for each category: Broden's always have theirs, others take what is left.

    Parameters
    ----------
    categories : sequence of str
        Category names in the data's order.

    Returns
    -------
    dict of str to Colour
        In the same order. Colours repeat once there are more categories than colours.
    """
    chosen = {name: _KNOWN[name] for name in categories if name in _KNOWN}
    for name in categories:
        wanted = _KNOWN.get(_ALIASES.get(name, ""))
        if name not in chosen and wanted is not None and wanted not in chosen.values():
            chosen[name] = wanted
    taken = set(chosen.values())
    free = [colour for colour in (*_SPARE, *_KNOWN.values()) if colour not in taken]
    free = free or list(_SPARE)
    rest = [name for name in categories if name not in chosen]
    chosen |= {name: free[index % len(free)] for index, name in enumerate(rest)}
    return {name: chosen[name] for name in categories}


# distinct on photos, after Okabe and Ito
_PARTS = (
    "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#ffffff",
)  # fmt: skip


def part_colours(parts: Sequence[str]) -> dict[str, str]:
    """A colour for each part of an object; they repeat after eight."""
    return {part: _PARTS[k % len(_PARTS)] for k, part in enumerate(parts)}

"""What images in memory have in common, as `cnnlens.data.survey` finds it of files.

All of a list are looked at, of a Dataset, whose items are made when they are asked for, some.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from cnnlens.data.bands import extent, full_range, present, sample_type
from cnnlens.data.decode import DamagedImage
from cnnlens.data.memory_item import bands_of, check_whole, is_deep, is_float
from cnnlens.data.ranges import Bounds, Ranges
from cnnlens.data.survey import spaced

_LOOKED_AT = 16  # items of a Dataset
_MEASURED = 500  # images deeper than 8 bits whose values are looked at


@dataclass(frozen=True)
class SeenInMemory:
    """What was found.

    Attributes
    ----------
    floats : bool
        Whether some images are made of floats.
    bands : frozenset of int
        How many channels images of other than greys and colours have.
    ranges : Ranges
        Which values become black and white, of what is deeper than 8 bits.
    notes : tuple of str
        What is to be said.
    """

    floats: bool
    bands: frozenset[int]
    ranges: Ranges
    notes: tuple[str, ...]


def seen_in_memory(
    items: Any, count: int, read: Callable[[int], Any], bounds: Bounds | None, done: bool
) -> SeenInMemory:
    """Look at images in memory.

    Parameters
    ----------
    items : sequence
        The images, or what gives them.
    count : int
        How many there are.
    read : callable
        Gives one by its number; may raise `DamagedImage`.
    bounds : (float, float), optional
        The range that was asked for.
    done : bool
        Whether floats are normalised already.
    """
    listed = isinstance(items, (list, tuple))
    places = range(count) if listed else spaced(range(count), _LOOKED_AT)
    seen = {place: item for place, item in _each(read, places) if _is_image(item)}
    for place, item in seen.items():
        check_whole(item, place)
    floats = any(map(is_float, seen.values()))
    bands = frozenset(bands_of(item) for item in seen.values()) - {1, 3}
    deep = [place for place, item in seen.items() if is_deep(item)]
    if bounds is not None:
        words = f"black to white are the values {bounds[0]:g} to {bounds[1]:g}"
        if deep or (floats and not done):
            return SeenInMemory(floats, bands, Ranges((), bounds), (words,))
        return SeenInMemory(
            floats, bands, Ranges(), ("no image has values that a range says something of",)
        )
    ranges = Ranges()
    notes: list[str] = []
    if deep:
        ranges, notes = _measured(read, deep if listed else range(count))
    return SeenInMemory(floats, bands, ranges, tuple(notes))


def _measured(read: Callable[[int], Any], places: Sequence[int]) -> tuple[Ranges, list[str]]:
    """Find the lowest and highest values of every type, of many images evenly spaced ones."""
    found: dict[str, list[Bounds]] = {}
    lacking = False
    for _, item in _each(read, spaced(places, _MEASURED)):
        if not is_deep(item):
            continue
        values = np.asarray(item)
        there = present(values)
        lacking |= there.size < values.size
        reach = extent(there)
        found.setdefault(sample_type(values), []).extend([reach] if reach else [])
    known = tuple(
        (kind, *full_range(min(r[0] for r in ends), max(r[1] for r in ends), kind[0] == "f"))
        for kind, ends in sorted(found.items())
        if ends
    )
    of = f" ({_MEASURED} of {len(places)} looked at)" if len(places) > _MEASURED else ""
    words = ", ".join(f"{low:g} to {high:g} in {kind}" for kind, low, high in known)
    notes = [f"black to white are the values {words}{of}; range='LOW,HIGH' says otherwise"]
    notes += ["values that are missing or no numbers are black"] if lacking else []
    return Ranges(known), notes if known else notes[1:]


def _each(read: Callable[[int], Any], places: Sequence[int]) -> Iterator[tuple[int, Any]]:
    """Read images; a damaged one is named when its turn comes."""
    for place in places:
        with suppress(DamagedImage):
            yield place, read(place)


def _is_image(item: Any) -> bool:
    """Whether an item can be looked at; what is no image is named when its turn comes."""
    if isinstance(item, Image.Image):
        return True
    if isinstance(item, torch.Tensor):
        return item.ndim == 3
    return isinstance(item, np.ndarray) and item.ndim in (2, 3)

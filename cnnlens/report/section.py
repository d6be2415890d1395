"""What a part of the page is: words for the template, data for the script, pictures by key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class UnitPicture:
    """A picture that the page shows wherever this unit is opened.

    Attributes
    ----------
    layer : str
        The layer as it was typed.
    unit : int
        Counted from 0.
    title, caption : str
        Heading of the picture's block, and a line below the picture.
    picture : str
        Key into the section's pictures.
    """

    layer: str
    unit: int
    title: str
    caption: str
    picture: str


@dataclass(frozen=True)
class Section:
    """One section of the page, gathered from a workspace.

    Attributes
    ----------
    template : str
        File in ``templates/`` that writes the section's HTML; it sees `view` as ``view`` and a
        function ``src(key)`` that gives a picture's address.
    view : mapping
        What the template shows, also without JavaScript and in print.
    data : mapping
        JSON-able; the page's script finds it under the section's name.
    pictures : mapping of str to pathlib.Path
        Key (``dissect/conv5/12.webp``: also the name in ``report_files/``) to file.
    at_unit : tuple of UnitPicture
        Pictures to show in the panel of a unit, whichever section opened it.
    sources : tuple of pathlib.Path
        Result files; the newest one dates the page.
    """

    template: str
    view: Mapping[str, Any]
    data: Mapping[str, Any]
    pictures: Mapping[str, Path] = field(default_factory=dict)
    at_unit: tuple[UnitPicture, ...] = ()
    sources: tuple[Path, ...] = ()

"""Which mask belongs to which image, by their names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cnnlens.data.imports.source import by_stem, stem_of

_LAST = re.compile(r"(?<=[^/])[_.-](?=[^_./-]*[^\W\d_])[^_./-]+$")  # a name's last part, no number


@dataclass(frozen=True)
class Matched:
    """A mask of each image.

    Attributes
    ----------
    masks : dict of str to str
        Paths of masks by the stems of their images; empty where none fits.
    others : frozenset of str
        Paths of further masks of these images, by another ending.
    notes : list of str
        Which were taken, for people.
    """

    masks: dict[str, str]
    others: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)


def one_each(
    photos: Mapping[str, str], paths: Sequence[str], is_of: Callable[[str], bool]
) -> Matched:
    """Find the masks that bear their images' names, else these and one ending that all share; else
    both may have one of their own, as Cityscapes' have.

    Parameters
    ----------
    photos : mapping of str to str
        Images by their stems.
    paths : sequence of str
        Masks.
    is_of : callable
        Says whether a mask is of the kind that is wanted, where there are several of each image.
    """
    for stems in ({stem: stem for stem in photos}, _without_ending(photos)):
        by_name = by_stem(paths)[0].items()
        if exact := {stems[stem]: path for stem, path in by_name if stem in stems}:
            return Matched(exact)
        if by_ending := _by_ending(stems, paths):
            return _chosen(by_ending, is_of)
    return Matched({})


def _without_ending(stems: Iterable[str]) -> dict[str, str]:
    """Stems by what is before the ending that all of them share; none where they share none."""
    every = list(stems)
    found = _LAST.search(every[0]) if every else None
    if found is None or not all(stem.endswith(found[0]) for stem in every):
        return {}
    return {stem.removesuffix(found[0]): stem for stem in every}


def _by_ending(stems: Mapping[str, str], paths: Sequence[str]) -> dict[str, dict[str, str]]:
    """Masks by what their names have after their images', ``_L``, and by these."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for path in paths:
        stem = stem_of(path)
        for place in range(len(stem) - 1, 0, -1):
            if stem[place] in "_-." and stem[:place] in stems:
                found[stem[place:]].setdefault(stems[stem[:place]], path)
                break
    return found


def _chosen(by_ending: Mapping[str, dict[str, str]], is_of: Callable[[str], bool]) -> Matched:
    """Choose the ending that most masks have, of about equally many one of the kind wanted."""
    most = max(map(len, by_ending.values()))
    likely = [ending for ending, masks in by_ending.items() if 2 * len(masks) >= most]
    if len(likely) > 1:
        first = {ending: next(iter(by_ending[ending].values())) for ending in likely}
        likely = [ending for ending in likely if is_of(first[ending])] or likely
    ending = max(likely, key=lambda ending: (len(by_ending[ending]), -len(ending), ending))
    masks = by_ending[ending]
    rest = {
        other: [path for stem, path in of.items() if stem in masks]
        for other, of in sorted(by_ending.items())
        if other != ending and 2 * len(of) >= most
    }
    others = frozenset(path for of in rest.values() for path in of)
    words = f"masks whose names end in {ending} are taken, and none in {', '.join(rest)}"
    return Matched(masks, others, [words] if others else [])


def by_class(photos: Mapping[str, str], paths: Sequence[str]) -> dict[str, dict[str, str]]:
    """Masks by class and image: the class is the folder without which a path is an image's."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for path in paths:
        parts = stem_of(path).split("/")
        for place in range(len(parts) - 1):
            stem = "/".join([*parts[:place], *parts[place + 1 :]])
            if stem in photos:
                found[parts[place]][stem] = path
                break
    return dict(sorted(found.items()))

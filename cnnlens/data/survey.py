"""What the files of a data set have in common: how deep their values go, how many bands they have.

Headers of files that may be deep (PNG, TIFF, JPEG 2000, no ending) are read, of many thousands
evenly spaced ones, and of some others, which may be called what they are not; then the values of
those that are deep, the same way. All files of one type of samples share one range, so that an
image is the same picture whichever others are read with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from cnnlens.data.ahead import read_ahead
from cnnlens.data.bands import (
    ALPHA,
    Header,
    extent,
    full_range,
    header_of,
    present,
    read_samples,
    sample_type,
)
from cnnlens.data.dataset import ImageSet
from cnnlens.data.decode import opened, orientation_of
from cnnlens.data.paths import container_of, readers_of
from cnnlens.data.ranges import Bounds, Ranges
from cnnlens.data.unread import UnreadFile, patiently
from cnnlens.data.walk import ending
from cnnlens.errors import counted

Found = TypeVar("Found")

_HEADERS = 5000  # files whose headers are read
_OTHERS = 200  # files of another ending whose headers are read
_MEASURED = 500  # deep files whose values are read
_TAGS = 200  # photos whose orientation is looked at
_WORKERS, _AHEAD = 4, 8
_NAMED = 3
_FILMS = (".gif", ".webp", ".png", ".tif", ".tiff", ".avif")
_MAY_BE_DEEP = (".png", ".tif", ".tiff", ".jp2", ".j2k", "")


def surveyed(images: ImageSet, bounds: Bounds | None = None) -> ImageSet:
    """Add the ranges of its deep files to a data set, their bands, and what is to be said of both.

    Parameters
    ----------
    images : ImageSet
        As opened.
    bounds : (float, float), optional
        The range of all deep files; left out, it is taken from them.

    Raises
    ------
    UnreadFile
        When one that is looked at cannot be read for now: others' ranges may depend on it.
    """
    ranges, bands, notes = survey([images.file(k) for k in range(len(images.paths))], bounds)
    inside = container_of(images.root)
    notes += inside.notes if inside else ()
    notes += filter(None, (_frames_note(images), _turned_note(images)))
    if not (ranges or bands or notes):
        return images
    return replace(images, ranges=ranges, bands=bands, notes=(*images.notes, *notes))


def survey(
    files: Sequence[Path], bounds: Bounds | None = None
) -> tuple[Ranges, frozenset[int], list[str]]:
    """Find the range of each type of deep samples, and the numbers of bands; say both."""
    likely = [file for file in files if ending(file.name) in _MAY_BE_DEEP]
    others = [file for file in files if ending(file.name) not in _MAY_BE_DEEP]
    looked_at = (*spaced(likely, _HEADERS), *spaced(others, _OTHERS))
    read = zip(looked_at, _mapped(_header, looked_at), strict=True)
    headers = {file: header for file, header in read if header}
    bands = frozenset(h.bands for h in headers.values() if h.bands not in (1, 3))
    deep = [file for file, header in headers.items() if header.is_deep]
    kinds = {(h.bands, h.paged) for h in headers.values() if h.paged or not h.shows_colours}
    notes = [_of_bands(*kind) for kind in sorted(kinds)]
    if lacking_bands := _beside(headers.values()):
        notes.append(lacking_bands)
    if not deep:
        if bounds is not None and files:
            notes.append("no file deeper than 8 bits was found: --range changes nothing")
        return Ranges(), bands, notes
    if bounds is not None:
        notes.append(f"black to white are the values {_words(bounds)}, in files deeper than 8 bits")
        return Ranges(everything=bounds), bands, notes
    ranges, lacking = _measured(spaced(deep, _MEASURED), headers)
    if ranges:
        of = f" ({_MEASURED} of {len(deep)} files measured)" if len(deep) > _MEASURED else ""
        said = [known for known in ranges.known if not known[0].endswith(ALPHA)]
        words = ", ".join(f"{_words((low, high))} in {kind}" for kind, low, high in said)
        notes.append(f"black to white are the values {words}{of}; --range LOW,HIGH says otherwise")
    if lacking:
        notes.append(f"values that are missing or no numbers are black ({_names(lacking)})")
    return ranges, bands, notes


def _measured(files: Sequence[Path], headers: dict[Path, Header]) -> tuple[Ranges, list[Path]]:
    """Find the lowest and highest values of every type, and the files that lack some values."""
    found: dict[str, list[Bounds]] = {}
    lacking = []

    def look(number: int) -> tuple[Path, dict[str, Bounds | None], bool] | None:
        file, header = files[number], headers[files[number]]
        try:
            values = patiently(file, lambda: _values(file, header))
            kind, reaches = sample_type(values), dict[str, Bounds | None]()
            if header.alpha and header.shows_colours and values.ndim == 3:
                reaches[kind + ALPHA] = extent(present(values[:, :, -1]))
                values = values[:, :, :-1]
            there = present(values, header.missing)
            return file, {kind: extent(there), **reaches}, there.size < values.size
        except UnreadFile:
            raise
        except Exception:  # a damaged file is named when it is decoded
            return None

    with closing(read_ahead(look, range(len(files)), _WORKERS, _AHEAD)) as measured:
        for file, reaches, lacks in filter(None, measured):
            lacking += [file] if lacks else []
            for kind, reach in reaches.items():
                found.setdefault(kind, []).extend([reach] if reach else [])
    known = tuple((kind, *_full(kind, found[kind])) for kind in sorted(found) if found[kind])
    return Ranges(known), lacking


def _full(kind: str, reaches: list[Bounds]) -> Bounds:
    low, high = min(low for low, _ in reaches), max(high for _, high in reaches)
    return full_range(low, high, kind.startswith("float"))


def _values(file: Path, header: Header) -> np.ndarray:
    """Read samples as `decode.load_image` and `decode.load_planes` do."""
    if header.is_ordinary:
        with opened(file) as image:
            return np.asarray(image)
    return read_samples(file, header)


def _header(file: Path) -> Header | None:
    with suppress(OSError):
        return patiently(file, lambda: header_of(file))
    return None


def _beside(headers: Iterable[Header]) -> str:
    """Say that a network of many channels gets some files' colours again in the place of bands."""
    of = Counter(header.shows_colours for header in headers)
    if not of[True] or not of[False]:
        return ""
    some = counted(of[True], "file")
    return f"{some} of greys or colours alone, repeated for a network of more channels"


def _of_bands(bands: int, paged: bool) -> str:
    if not paged:
        return f"files of {bands} bands, shown as their mean"
    if bands == 3:
        return "files of 3 pages, read as red, green and blue"
    return f"files of {bands} pages: bands for a network of {bands} channels, else the first counts"


def _mapped(look: Callable[[Path], Found], files: Sequence[Path]) -> Iterator[Found]:
    """Look at files in threads, in order."""
    workers = readers_of(files[0], _WORKERS) if files else 0
    yield from read_ahead(lambda k: look(files[k]), range(len(files)), workers, 4 * workers)


def _is_turned(file: Path) -> bool:
    with suppress(Exception), opened(file) as image:
        return orientation_of(image) > 1
    return False


def spaced(every: Sequence[Found], most: int) -> Sequence[Found]:
    """Choose some of many, evenly, the first and the last among them; all of few."""
    if len(every) <= most:
        return every
    return [every[int(at)] for at in np.linspace(0, len(every) - 1, most)]


def _words(bounds: Bounds) -> str:
    return " to ".join(f"{value:g}" for value in bounds)


def _names(files: Sequence[Path]) -> str:
    more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
    return ", ".join(file.name for file in files[:_NAMED]) + more


def _frames_note(images: ImageSet) -> str:
    """Say that of films only the first frame counts."""
    films = [images.file(k) for k, p in enumerate(images.paths) if ending(p) in _FILMS]
    some = spaced(films, _TAGS)
    found = [file for file, is_film in zip(some, _mapped(_is_film, some), strict=True) if is_film]
    return f"of several frames the first counts ({_names(found)})" if found else ""


def _is_film(file: Path) -> bool:
    if _is_stack(file):
        return False
    with suppress(Exception), opened(file) as image:
        return getattr(image, "n_frames", 1) > 1
    return False


def _is_stack(file: Path) -> bool:
    """Whether a TIFF's pages are bands, which are spoken of elsewhere."""
    header = _header(file)
    return header is not None and (header.paged or not header.shows_colours)


def _turned_note(images: ImageSet) -> str:
    """Say that photos with labels bear an orientation, and what becomes of it."""
    if not images.aligned:
        return ""
    files = [images.file(index) for index in range(len(images.paths))]
    count = sum(_mapped(_is_turned, spaced(files, _TAGS)))
    if not count:
        return ""
    of = len(files) if len(files) <= _TAGS else f"{_TAGS} looked at"
    return (
        f"{count} of {of} images bear an EXIF orientation: they are turned only where their labels "
        "are, too"
    )

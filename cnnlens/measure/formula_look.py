"""Units' mask pixels in every combination of labels, as they are and shuffled: what the search for
formulas reads.

They are counted in the sweep that counts for single concepts, and lie in temporary files (12 bytes
for a unit and a combination that meet), of which those of one run of units are read at a time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from cnnlens.distributed import Share
from cnnlens.measure.combinations import Combinations, grouped
from cnnlens.measure.formulas import Formulas, Search
from cnnlens.measure.label_cache import LabelCache
from cnnlens.measure.masks import MaskPixels, compiled
from cnnlens.progress import Step

#: part of the units, image of the batch, size of label map -> masks
FindMasks = Callable[[int, int, tuple[int, int]], MaskPixels]


def combinations(book: LabelCache, seen: Sequence[int]) -> Combinations:
    """Gather the combinations of labels of all images that have usable ones."""
    truths = ((position, book.whole(position)) for position in seen if position not in book.bad)
    return Combinations.of(truths, book.space.category_of, book.categories)


class FormulaLook:
    """Counts a layer's masks by combinations of labels, and finds each unit's best formula.

    Parameters
    ----------
    table : Combinations
        Of all images.
    book : LabelCache
        Their labels, kept.
    units : sequence of slice
        Runs of units; each thread has its own.
    shuffles, seed : int
        Of the label maps, for the chance level.
    """

    def __init__(
        self,
        table: Combinations,
        book: LabelCache,
        units: Sequence[slice],
        shuffles: int,
        seed: int,
    ) -> None:
        self._table, self._book, self._units = table, book, units
        self._donors = [dict(zip(table.first, table.first, strict=True))]
        self._donors += table.shuffled(shuffles, seed)
        self._tallies = [_Tally(units) for _ in self._donors]

    def add(self, positions: list[int], masks: FindMasks, pool: ThreadPoolExecutor) -> None:
        """Take in a batch of images at `positions`."""
        for donors, tally in zip(self._donors, self._tallies, strict=True):
            given = [(image, donors[p]) for image, p in enumerate(positions) if p in donors]
            truths = pool.map(self._book.whole, [donor for _, donor in given])
            groups = [(truth.size, grouped(truth.planes)[0]) for truth in truths]
            some = partial(self._add, tally, masks, given, groups)
            list(pool.map(some, range(len(self._units))))

    def _add(
        self,
        tally: _Tally,
        masks: FindMasks,
        given: list[tuple[int, int]],
        groups: list[tuple[tuple[int, int], np.ndarray]],
        part: int,
    ) -> None:
        """Count a part of the units on images, each `given` another's labels."""
        for (image, donor), (size, group) in zip(given, groups, strict=True):
            tally.add(part, masks(part, image, size), group, self._table.first[donor])

    def put_together(self, share: Share) -> None:
        """Give the first process what all processes of a run have counted."""
        for tally in self._tallies:
            tally.put_together(share)

    def search(
        self, order: np.ndarray, length: int, beam: int, kinds: np.ndarray
    ) -> Generator[Step, None, Formulas]:
        """Find every unit's best formula, with labels as they are and shuffled (see `Search`);
        `kinds` says which units share a null.
        """
        search = Search(self._table, order, length, beam)
        total = len(self._tallies) * self._units[-1].stop
        found = []
        for tally in self._tallies:
            for rows, counts in tally.of_units():
                found.append(search.best(rows, counts))
                yield Step(len(found), total, "formulas", unit="searches")
        return Formulas.of(found, kinds)


class _Tally:
    """Units' mask pixels in every combination of labels, in a temporary file per run of units."""

    def __init__(self, units: Sequence[slice]) -> None:
        self._units = units
        self._files = [tempfile.TemporaryFile() for _ in units]  # noqa: SIM115

    def add(self, part: int, found: MaskPixels, groups: np.ndarray, first: int) -> None:
        """Count masks of a run of units on an image whose pixels fall into groups (h · w,)."""
        records = np.empty((len(found.pixels), 3), np.int32)
        many = _tally(found.pixels, found.ends, groups, int(groups.max(initial=0)) + 1, records)
        records[:many] += np.array([self._units[part].start, first, 0], np.int32)
        self._files[part].write(records[:many].tobytes())

    def put_together(self, share: Share) -> None:
        """Let the first process go on with all records; their runs of units must be the same."""
        for file in self._files:
            file.seek(0)
            if every := share.at_first(file.read()):
                file.seek(0)
                file.writelines(every)

    def of_units(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Give every unit's rows of the table and its mask pixels in them, unit by unit."""
        for units, file in zip(self._units, self._files, strict=True):
            file.seek(0)
            records = np.frombuffer(file.read(), np.int32).reshape(-1, 3)
            records = records[np.argsort(records[:, 0], kind="stable")]
            borders = np.searchsorted(records[:, 0], np.arange(units.start + 1, units.stop))
            for mine in np.split(records, borders):
                yield mine[:, 1].astype(np.int64), mine[:, 2].astype(np.int64)


@compiled
def _tally(pixels, ends, groups, rows, records):
    """Count each unit's mask pixels by group: (unit, group, pixels); return how many records."""
    counts, met = np.zeros(rows, np.int32), np.empty(rows, np.int32)
    many = 0
    for unit in range(len(ends) - 1):
        touched = 0
        for place in range(ends[unit], ends[unit + 1]):
            group = groups[pixels[place]]
            if counts[group] == 0:
                met[touched] = group
                touched += 1
            counts[group] += 1
        for group in met[:touched]:
            records[many, 0], records[many, 1], records[many, 2] = unit, group, counts[group]
            counts[group] = 0
            many += 1
    return many

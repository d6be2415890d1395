"""The labels of images: read once, kept compressed in a file, handed out whole or by category.

An image's labels take kilobytes. What is held in memory of it is where they lie: some 12 bytes for
every category, and 4 for every category and shuffle.
"""

from __future__ import annotations

import tempfile
import threading
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from cnnlens.data.batches import check_skipped
from cnnlens.data.concept_space import BadLabels, ConceptSpace
from cnnlens.distributed import Share
from cnnlens.measure.iou import GroundTruth

_ABSENT = -1  # in place of where labels lie: the image does not carry the category


class LabelCache:
    """The labels of a data set's images.

    Parameters
    ----------
    space : ConceptSpace
        Where labels come from.
    images : int
        Images in the data set.
    keep : bool
        Keep every image's labels, compressed (some kilobytes an image), for the shuffles.
    by_concept : bool
        An image carries a category when it has a concept of it, not when its cell is filled
        (the older tool's way).
    folder : pathlib.Path, optional
        Where they are kept, in a nameless file that goes with this object; left out: where the
        system has its temporary files.
    """

    def __init__(
        self,
        space: ConceptSpace,
        images: int,
        keep: bool,
        by_concept: bool,
        folder: Path | None = None,
    ) -> None:
        self.space = space
        self.keep = keep
        self.bad: dict[int, tuple[str, str]] = {}
        self._images, self._by_concept = images, by_concept
        if keep:
            self._kept = _Records(images, self.categories, folder)

    def read(self, position: int) -> GroundTruth | None:
        """Read one image's labels; None, and a note in `bad`, where they are unusable."""
        try:
            labels = self.space.labels(position)
        except BadLabels as error:
            self.note_bad({position: (error.path, error.reason)})
            return None
        planes = labels.planes.reshape(len(labels.planes), labels.size[0] * labels.size[1])
        present = labels.present
        if self._by_concept:
            present = np.zeros(len(present), bool)
            present[self.space.category_of[np.unique(planes[planes > 0]).astype(np.int64) - 1]] = (
                True
            )
            present[self.space.category_of[labels.whole]] = True
        return GroundTruth(np.ascontiguousarray(planes), labels.whole, present, labels.size)

    def store(self, position: int) -> None:
        """Read one image's labels and keep them by category.

        Raises
        ------
        OSError
            When the disk is full.
        """
        truth = self.read(position)
        if truth is not None:
            carried = np.flatnonzero(truth.present).tolist()
            self._kept.put(position, truth.size, {c: self._part(truth, c) for c in carried})

    def _part(self, truth: GroundTruth, category: int) -> bytes:
        """Put one category's labels on an image into bytes: how many planes, and what they hold."""
        of = np.concatenate([[-1], self.space.category_of])
        mine = np.where(of[truth.planes] == category, truth.planes, 0).astype(np.uint16)
        mine = mine[mine.any(axis=1)]
        whole = truth.whole[self.space.category_of[truth.whole] == category]
        head = np.array([len(mine), len(whole), *whole], np.int64)
        return head.tobytes() + zlib.compress(mine.tobytes(), 1)

    def store_all(self, positions: Sequence[int], workers: int) -> Iterator[int]:
        """Keep the labels of many images; yield after each."""
        with ThreadPoolExecutor(max(1, workers)) as pool:
            for done, _ in enumerate(pool.map(self.store, positions), 1):
                yield done

    def exchange(self, positions: Sequence[int], share: Share) -> int:
        """Give the labels kept of some images to the other processes of a run, and keep theirs.

        Return of how many images they are, in all processes.
        """
        if not share.joined:
            return len(positions)
        mine = {p: self._kept.of(p) for p in positions if p not in self.bad}
        every = share.gathered((len(positions), mine, self.bad))
        for number, (_, theirs, bad) in enumerate(every):
            self.note_bad(bad)
            for position, (size, parts) in theirs.items() if number != share.number else ():
                self._kept.put(position, size, parts)
        return sum(count for count, _, _ in every)

    def note_bad(self, bad: dict[int, tuple[str, str]]) -> None:
        """Note which images have unusable labels; too many raise."""
        self.bad.update(bad)  # in place: threads note them, too
        check_skipped(sorted(self.bad.values()), self._images)

    def carriers(self, category: int) -> np.ndarray:
        """Positions of the images that carry a category, ascending, int64."""
        return np.flatnonzero(self._kept.carried(slice(None), category))

    def part(self, position: int, category: int) -> GroundTruth:
        """Return one category's labels on one image."""
        size, part = self._kept.size(position), self._kept.get(position, category)
        count, many = np.frombuffer(part, np.int64, 2).tolist()
        whole = np.frombuffer(part, np.int64, many, offset=16)
        planes = np.frombuffer(zlib.decompress(memoryview(part)[16 + 8 * many :]), np.uint16)
        present = np.zeros(self.categories, bool)
        present[category] = True
        return GroundTruth(planes.reshape(count, size[0] * size[1]), whole, present, size)

    def carried(self, position: int) -> list[int]:
        """Categories that an image carries; none where its labels are unusable."""
        found: list[int] = np.flatnonzero(self._kept.carried(position, slice(None))).tolist()
        return found

    def whole(self, position: int) -> GroundTruth:
        """Return all labels of an image that were kept."""
        parts = [self.part(position, c) for c in self.carried(position)]
        if not parts:
            size = self._kept.size(position)
            return GroundTruth(
                np.zeros((0, size[0] * size[1]), np.uint16),
                np.zeros(0, np.int64),
                np.zeros(self.categories, bool),
                size,
            )
        return GroundTruth(
            np.concatenate([p.planes for p in parts]),
            np.concatenate([p.whole for p in parts]),
            np.any([p.present for p in parts], axis=0),
            parts[0].size,
        )

    @property
    def categories(self) -> int:
        """Number of categories, those without concepts included."""
        return len(self.space.category_names)


class _Records:
    """Bytes by image and category, in a nameless file, for threads to write and read."""

    def __init__(self, images: int, categories: int, folder: Path | None) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (it goes with this object)
        self._lock, self._end = threading.Lock(), 0
        self._places = np.full((images, categories), _ABSENT, np.int64)
        self._lengths = np.zeros((images, categories), np.int32)
        self._sizes = np.zeros((images, 2), np.int32)  # of label maps, (h, w)

    def put(self, image: int, size: tuple[int, int], parts: dict[int, bytes]) -> None:
        """Keep an image's parts by category."""
        text = b"".join(parts.values())
        with self._lock:
            self._file.seek(self._end)
            self._file.write(text)
            place, self._end = self._end, self._end + len(text)
        self._sizes[image] = size
        for category, part in parts.items():
            self._places[image, category], self._lengths[image, category] = place, len(part)
            place += len(part)

    def get(self, image: int, category: int) -> bytes:
        """Return what was kept."""
        place, length = int(self._places[image, category]), int(self._lengths[image, category])
        with self._lock:
            self._file.seek(place)
            return self._file.read(length)

    def of(self, image: int) -> tuple[tuple[int, int], dict[int, bytes]]:
        """Return all that was kept of an image, as `put` takes it."""
        carried = np.flatnonzero(self._places[image] != _ABSENT).tolist()
        return self.size(image), {c: self.get(image, c) for c in carried}

    def carried(self, image: int | slice, category: int | slice) -> np.ndarray:
        """Say where something was kept, bool."""
        found: np.ndarray = self._places[image, category] != _ABSENT
        return found

    def size(self, image: int) -> tuple[int, int]:
        """(h, w) of an image's labels."""
        height, width = self._sizes[image].tolist()
        return height, width


class Permutation:
    """Whose labels of a category an image gets, in one shuffle.

    Parameters
    ----------
    carriers : sequence of numpy.ndarray
        By category: the positions of the images that carry it, ascending, int32.
    seed, number : int
        Of all shuffles, and which of them.
    """

    def __init__(self, carriers: Sequence[np.ndarray], seed: int, number: int) -> None:
        self._carriers = carriers
        self._donors = [
            np.random.default_rng([seed, number, category]).permutation(of)
            for category, of in enumerate(carriers)
        ]

    def __call__(self, position: int, category: int) -> int:
        """Return the position of the image whose labels one at a position gets."""
        place = self._carriers[category].searchsorted(np.int32(position))  # of one type: no copy
        return int(self._donors[category][place])


def permutations(book: LabelCache, shuffles: int, seed: int) -> list[Permutation]:
    """Permute each category's labels among the images that carry it, `shuffles` times."""
    if not shuffles:
        return []
    carriers = [book.carriers(category).astype(np.int32) for category in range(book.categories)]
    return [Permutation(carriers, seed, number) for number in range(shuffles)]

"""Vectors of images and words by an encoder, made once, block by block, and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnlens.data.dataset import ImageSet
from cnnlens.data.decode import DamagedImage
from cnnlens.data.word_vectors import WordVectors, directions
from cnnlens.errors import CnnlensError
from cnnlens.files import atomic
from cnnlens.model.encoder import Encoder
from cnnlens.progress import Step

_BLOCK = 256  # images or words that are kept at once: what an interrupt may cost
_SEEN, _SAID = 4, 64  # images and words that are encoded to know an encoder by
_NAMES = "names.json"  # the words, beside their vectors


@dataclass(frozen=True)
class Kept:
    """Where vectors are kept: folders of blocks, one of images and one of words.

    Attributes
    ----------
    images, words : str
        Their names in a workspace's folder ``vectors``: hashes of all that they depend on.
    """

    images: str
    words: str

    @classmethod
    def of(
        cls, key: str | tuple[str, str], images: ImageSet, words: Sequence[str],
        texts: Sequence[str],
    ) -> Kept:  # fmt: skip
        """Name what an encoder of these keys says, or what a file of vectors of one key does;
        `texts` are templates.
        """
        of_images, of_words = (key, key) if isinstance(key, str) else key
        return cls(_name(of_images, images.fingerprint), _name(of_words, *texts, "", *words))

    def write(self, folder: Path, vectors: WordVectors) -> None:
        """Keep vectors that were made elsewhere, where they are not kept yet."""
        for name, rows in ((self.images, vectors.images), (self.words, vectors.words)):
            for start in range(0, len(rows), _BLOCK):
                file, block = folder / name / f"{start}.npy", rows[start : start + _BLOCK]
                if _kept(file, len(block)) is None:
                    _write(file, block)
        self.write_names(folder, vectors.names)

    def write_names(self, folder: Path, words: Sequence[str]) -> None:
        """Keep the words beside their vectors."""
        with atomic(folder / self.words / _NAMES) as fresh:
            fresh.write_text(json.dumps(list(words), ensure_ascii=False), "utf-8")

    def read(self, folder: Path, images: int) -> WordVectors:
        """Read vectors of so many images, and of their words.

        Raises
        ------
        CnnlensError
            When some are gone or damaged.
        """
        try:
            names = json.loads((folder / self.words / _NAMES).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise _gone(folder) from error
        if not isinstance(names, list):
            raise _gone(folder)
        pictures = _all_kept(folder / self.images, images)
        words = _all_kept(folder / self.words, len(names))
        return WordVectors(pictures, words, tuple(map(str, names)))


def _gone(folder: Path) -> CnnlensError:
    return CnnlensError(
        f"vectors of images and words in {folder} are gone or damaged",
        "redo `cnnlens label --from text` with --force",
    )


def probed(
    encoder: Encoder, images: ImageSet, words: Sequence[str], templates: Sequence[str]
) -> tuple[str, str]:
    """Say what an encoder's vectors of these images and words depend on: a mark of either.

    Some of the images and of the words, evenly spaced, are encoded for it.
    """
    pictures = []
    for place in _spaced(len(images.paths), _SEEN):
        with suppress(DamagedImage):
            pictures.append(images.load(place))
    some = [words[place] for place in _spaced(len(words), _SAID)]
    return encoder.probed(pictures, [templates[0].replace("{}", word) for word in some])


def _spaced(count: int, most: int) -> list[int]:
    return sorted({round(at) for at in np.linspace(0, count - 1, min(count, most))})


def encoded_steps(
    encoder: Encoder,
    images: ImageSet,
    words: Sequence[str],
    templates: Sequence[str],
    folder: Path,
    batch: int = 32,
    *,
    keys: tuple[str, str] | None = None,
    force: bool = False,
) -> Generator[Step, None, WordVectors]:
    """Encode images, and words in templates; blocks that are in `folder` are read.

    `keys` are what `probed` says, where that is known. A word's direction is the mean of its
    directions in all templates. Damaged images have the vector 0.

    Raises
    ------
    CnnlensError
        When the encoder fails, or gives vectors without a direction.
    """

    def of_images(rows: range) -> np.ndarray:
        return _of_images(encoder, images, rows, batch)

    def of_words(rows: range) -> np.ndarray:
        return _of_words(encoder, [words[row] for row in rows], templates, batch)

    keys = keys or probed(encoder, images, words, templates)
    kept = Kept.of(keys, images, words, templates)
    own = folder / kept.images
    pictures = yield from _blocks(own, len(images.paths), of_images, "encoding", "images", force)
    own = folder / kept.words
    said = yield from _blocks(own, len(words), of_words, "encoding", "words", force)
    kept.write_names(folder, words)
    if pictures.shape[1] != said.shape[1]:
        lengths = f"{pictures.shape[1]} numbers of an image, {said.shape[1]} of a text"
        raise CnnlensError(f"{encoder.spec} gives {lengths}", "one space has one length")
    return WordVectors(pictures, said, tuple(words))


def _name(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _blocks(
    folder: Path,
    count: int,
    encode: Callable[[range], np.ndarray],
    stage: str,
    unit: str,
    force: bool,
) -> Generator[Step, None, np.ndarray]:
    """Encode what is not kept yet; return all, (count, D)."""
    found = []
    for start in range(0, count, _BLOCK):
        rows, file = range(start, min(start + _BLOCK, count)), folder / f"{start}.npy"
        block = None if force else _kept(file, len(rows))
        if block is None:
            block = encode(rows)
            _write(file, block)
        found.append(block)
        yield Step(rows.stop, count, f"{stage} {unit}", unit=unit)
    if len({block.shape[1] for block in found}) > 1:
        raise CnnlensError(f"vectors of {unit} differ in length", "one space has one length")
    return np.concatenate(found)


def _write(file: Path, block: np.ndarray) -> None:
    with atomic(file) as fresh, fresh.open("wb") as out:
        np.save(out, block, allow_pickle=False)


def _kept(file: Path, rows: int) -> np.ndarray | None:
    """Read a block; a damaged one is made anew."""
    try:
        block: np.ndarray = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return block if block.ndim == 2 and len(block) == rows else None


def _all_kept(folder: Path, count: int) -> np.ndarray:
    """Read so many vectors, (count, D)."""
    found = []
    for start in range(0, count, _BLOCK):
        block = _kept(folder / f"{start}.npy", min(_BLOCK, count - start))
        if block is None:
            raise _gone(folder.parent)
        found.append(block)
    if len({block.shape[1] for block in found}) != 1:
        raise _gone(folder.parent)
    return np.concatenate(found)


def _of_images(encoder: Encoder, images: ImageSet, rows: range, batch: int) -> np.ndarray:
    good, opened = [], []
    for row in rows:
        try:
            opened.append(images.load(row))
            good.append(row)
        except DamagedImage:  # who measures the network says so
            continue
    if not good:
        raise CnnlensError(
            f"not one of {len(rows)} images can be read", "`cnnlens data check DIR` lists all"
        )
    vectors = np.concatenate(
        [encoder.of_images(opened[at : at + batch]) for at in range(0, len(opened), batch)]
    )
    found = np.zeros((len(rows), vectors.shape[1]), np.float32)
    at = [row - rows.start for row in good]
    found[at] = directions(vectors, [images.paths[row] for row in good], encoder.spec)
    return found


def _of_words(
    encoder: Encoder, words: Sequence[str], templates: Sequence[str], batch: int
) -> np.ndarray:
    total: np.ndarray | float = 0.0
    for template in templates:
        texts = [template.replace("{}", word) for word in words]
        vectors = [encoder.of_texts(texts[at : at + batch]) for at in range(0, len(texts), batch)]
        total = total + directions(np.concatenate(vectors), texts, encoder.spec)
    return directions(np.asarray(total), words, encoder.spec)

"""Words to name units by, and vectors of images and words that some encoder made."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cnnlens.errors import CnnlensError, UsageError, counted

_HINT = "it is an .npz with images (N, D), words (K, D), and their paths and names"
_LEAST = 2  # words: names tell words apart


@dataclass(frozen=True, eq=False)
class WordVectors:
    """Directions of images and of words in one space; their cosines say how well they agree.

    Attributes
    ----------
    images : numpy.ndarray
        (N, D) float32 of length 1, in the data's order.
    words : numpy.ndarray
        (K, D) float32 of length 1.
    names : tuple of str
        The words.
    again : int
        Further vectors of words that were there before, left out.
    """

    images: np.ndarray
    words: np.ndarray
    names: tuple[str, ...]
    again: int = 0


def read_words(path: Path) -> tuple[list[str], int]:
    """Read a list of words, one per line; lines that begin with ``#`` are remarks.

    Returns
    -------
    list of str, int
        The words, each once, and how many lines said one again.

    Raises
    ------
    UsageError
        When it cannot be read, or holds fewer than two.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "not text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise UsageError(f"{path} cannot be read: {reason}", "it holds a word per line") from error
    lines = [" ".join(line.split()) for line in text.splitlines()]
    every = [line for line in lines if line and not line.startswith("#")]
    words = list(dict.fromkeys(every))
    if len(words) < _LEAST:
        raise UsageError(
            f"{path} holds {counted(len(words), 'word')}", "give two or more, one per line"
        )
    return words, len(every) - len(words)


def read_vectors(path: Path, paths: Sequence[str]) -> WordVectors:
    """Read vectors that were made elsewhere, of the images at `paths`.

    Vectors of more images are passed over; of a name that is there twice the first counts.

    Raises
    ------
    UsageError
        When the file does not exist, or is no such file.
    CnnlensError
        When arrays do not belong together, an image has no vector, or one is zero or not finite.
    """
    images, words, of, names = _arrays(path)
    for what, vectors, own_names in (("images", images, of), ("words", words, names)):
        if vectors.ndim != 2 or len(vectors) != len(own_names):
            belongs = "paths" if what == "images" else "names"
            said = f"{what} is {_shape(vectors)}, and there are {len(own_names)} {belongs}"
            raise CnnlensError(f"{path}: {said}", _HINT)
    if images.shape[1] != words.shape[1]:
        lengths = f"{images.shape[1]} numbers, those of words {words.shape[1]}"
        raise CnnlensError(f"{path}: vectors of images have {lengths}", "one encoder makes both")
    row = {name: at for at, name in reversed([*enumerate(of)])}
    if lost := [one for one in paths if one not in row]:
        raise CnnlensError(
            f"{path} has no vectors of {len(lost)} of {len(paths)} images, {lost[0]} among them",
            "paths are relative to the data folder, with forward slashes",
        )
    first = {name: at for at, name in reversed([*enumerate(names)])}
    kept = sorted(first.values())
    if len(kept) < _LEAST:
        raise CnnlensError(f"{path} holds {counted(len(kept), 'word')}", "give two or more")
    called = [names[at] for at in kept]
    own = directions(images[[row[one] for one in paths]], paths, str(path))
    theirs = directions(words[kept], called, str(path))
    return WordVectors(own, theirs, tuple(called), len(names) - len(kept))


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    if not path.is_file():
        raise UsageError(f"{path} does not exist", _HINT)
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise UsageError(f"{path} holds one array", _HINT)
            if lost := [key for key in ("images", "words", "paths", "names") if key not in file]:
                raise UsageError(f"{path} lacks {', '.join(lost)}", _HINT)
            vectors = [np.asarray(file[key], np.float32) for key in ("images", "words")]
            texts = [[str(one) for one in file[key].ravel()] for key in ("paths", "names")]
    except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} cannot be read: {error}", _HINT) from error
    return vectors[0], vectors[1], texts[0], texts[1]


def _shape(array: np.ndarray) -> str:
    return "×".join(map(str, array.shape)) or "one number"


def directions(vectors: np.ndarray, names: Sequence[str], where: str) -> np.ndarray:
    """Bring vectors (N, D) to length 1.

    Raises
    ------
    CnnlensError
        When one has no direction; it is named.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)  # (N, 1)
    bad = np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))
    if len(bad):
        what = "zero" if lengths[bad[0], 0] == 0 else "not finite"
        said = f"{len(bad)} of {len(vectors)} vectors have no direction"
        said = f"{said}: that of '{names[bad[0]]}' is {what}"
        raise CnnlensError(f"{where}: {said}", "leave it out, or mend the encoder")
    lengths[np.abs(lengths - 1) < 1e-6] = 1  # what was kept and is read again stays as it is
    found: np.ndarray = (vectors / lengths).astype(np.float32)
    return found

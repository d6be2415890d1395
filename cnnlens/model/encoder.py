"""Encoders of images and texts into one space: the user's own code, or a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.files import mark
from cnnlens.model.architectures.importing import importing
from cnnlens.model.architectures.own_code import folder_of, is_factory
from cnnlens.model.architectures.registry import load_factory, reason_of
from cnnlens.model.architectures.trusted import trust
from cnnlens.model.encoder_folders import files_of, open_folder
from cnnlens.model.files_read import contents, files_read

_PROBE = "a photo of a dog"
_HINT = "it returns two callables: of a list of PIL images, and of a list of texts, to (N, D)"


@dataclass(frozen=True, eq=False)
class Encoder:
    """Two callables into one space.

    Attributes
    ----------
    spec : str
        What the user typed.
    source : str
        The code's text.
    images, texts : callable
        Of a list of PIL images, or of strings; each returns (N, D), an array or a tensor.
    files : frozenset of pathlib.Path
        That were read when it was opened.
    """

    spec: str
    source: str
    images: Callable[[list[Image.Image]], Any]
    texts: Callable[[list[str]], Any]
    files: frozenset[Path] = frozenset()

    def of_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Encode images, (N, D) float32."""
        return self._rows("images", self.images, list(images))

    def of_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Encode texts, (N, D) float32."""
        return self._rows("texts", self.texts, list(texts))

    def probed(self, images: Sequence[Image.Image], texts: Sequence[str]) -> tuple[str, str]:
        """What its vectors of images and those of texts depend on, as far as that can be told.

        Its code; the files that this reads; and what it says of one image and one text, of some of
        those that it is asked about: it may have weights of which nobody knows the file.

        Parameters
        ----------
        images, texts : sequence
            Some of those that it is to encode.

        Returns
        -------
        (str, str)
            Marks: equal ones, equal vectors.
        """
        shades = np.add.outer(np.arange(64), np.arange(64))  # (64, 64)
        probe = Image.fromarray(np.stack([shades, shades[::-1], shades.T * 2], -1).astype(np.uint8))
        with files_read() as read:
            seen = self.of_images([probe, *images])
            said = self.of_texts([_PROBE, *texts])
        if seen.shape[1] != said.shape[1]:
            lengths = f"{seen.shape[1]} numbers of an image, {said.shape[1]} of a text"
            raise CnnlensError(f"{self.spec} gives {lengths}", "one space has one length")
        name = self.spec.rpartition(":")[2].rpartition("/")[2]  # wherever its folder lies
        of = [name, self.source, contents({*self.files, *read})]
        return mark([*of, _rounded(seen)]), mark([*of, _rounded(said)])

    def _rows(self, what: str, call: Callable[[list[Any]], Any], of: list[Any]) -> np.ndarray:
        try:
            found = call(of)
            found = found.detach().cpu().float().numpy() if hasattr(found, "detach") else found
            rows = np.asarray(found, np.float32)
        except (Exception, SystemExit) as error:
            said = f"{self.spec} failed on {len(of)} {what}: {reason_of(error)}"
            raise CnnlensError(said, _HINT) from error
        if rows.ndim != 2 or len(rows) != len(of):
            said = f"{self.spec} made {rows.shape} of {len(of)} {what}"
            raise CnnlensError(said, "it returns a vector for each, (N, D)")
        return rows


def _rounded(rows: np.ndarray) -> list[list[float]]:
    """Round directions (N, D), of which the last digits may differ from one machine to another."""
    lengths = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    found: list[list[float]] = (np.nan_to_num(np.round(rows / lengths, 3)) + 0.0).tolist()
    return found


def open_encoder(spec: str) -> Encoder:
    """Call the factory ``file.py:factory`` or ``package.module:factory``, or open a folder that
    transformers or open_clip has written.

    Raises
    ------
    UsageError
        When it does not exist.
    CnnlensError
        When it fails, or returns something else.
    """
    if Path(spec).is_dir():
        (images, texts), source = open_folder(Path(spec))
        return Encoder(str(Path(spec)), source, images, texts, files_of(Path(spec)))
    if not is_factory(spec):
        raise UsageError(
            f"--encoder {spec} is neither a folder nor a factory",
            f"a folder of transformers or open_clip, or file.py:factory; {_HINT}",
        )
    trust(spec)  # before what is read is what the code reads
    try:
        with files_read() as read:
            factory, code = load_factory(spec, "two callables")
            with importing(folder_of(spec)):
                made = factory()
    except CnnlensError:
        raise
    except (Exception, SystemExit) as error:
        raise CnnlensError(f"{spec} failed: {reason_of(error)}", _HINT) from error
    if not (isinstance(made, (tuple, list)) and len(made) == 2 and all(map(callable, made))):
        raise CnnlensError(f"{spec} returned a {type(made).__name__}", _HINT)
    return Encoder(spec, code.text, made[0], made[1], frozenset(read))

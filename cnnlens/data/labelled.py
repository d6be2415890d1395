"""Decoded images with a category each, to train on."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnnlens.data.batches import Skipped
from cnnlens.data.dataset import ImageSet
from cnnlens.data.decoded import Decoded, decoded_steps
from cnnlens.errors import CnnlensError, UsageError, counted, did_you_mean
from cnnlens.progress import Step, followed

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from cnnlens.model.preprocess import Preprocess

FEWEST = 4  # images of a category: some to train on, some to hold out


@dataclass(eq=False)
class Labelled:
    """Images with labels.

    Attributes
    ----------
    pixels : torch.Tensor
        (N, C, H, W) uint8, or float32 in units of [0, 1].
    labels : torch.Tensor
        (N,) int64, -1 for negatives.
    classes : list of str
        Names of the labels.
    skipped : list of (path, reason)
        Images that could not be read.
    preprocess : Preprocess
        How the network takes pixels.
    device : torch.device, optional
        Where inputs go; left out: where the pixels are.
    source : str
        Hash of the images, where they were read from files.
    data : str
        That of the images alone, without the negatives.
    positions : numpy.ndarray or None
        (N,) int64, each image's position in the data, -1 for those from the folder of negatives;
        None where they were not read from one.
    """

    pixels: Tensor
    labels: Tensor
    classes: list[str]
    skipped: list[Skipped]
    preprocess: Preprocess
    device: torch.device | None = None
    source: str = ""
    data: str = ""
    positions: np.ndarray | None = None

    @property
    def fingerprint(self) -> str:
        """Equal fingerprints, the same images and labels."""
        images = self.source or sha256(self.pixels.numpy().tobytes()).hexdigest()
        return f"{images} {sha256(self.labels.numpy().tobytes()).hexdigest()}"

    def first_equal(self) -> Tensor:
        """Find for each image the first that it equals, pixel by pixel: itself, most often.

        Returns
        -------
        torch.Tensor
            (N,) int64.
        """
        import torch

        rows = self.pixels.reshape(len(self.pixels), -1).contiguous().view(torch.uint8)
        sums = rows.sum(dim=1, dtype=torch.int64)  # (N,); only images of equal ones are hashed
        _, of, counts = sums.unique(return_inverse=True, return_counts=True)
        same, seen = torch.arange(len(rows)), dict[bytes, int]()
        for row in (counts[of] > 1).nonzero()[:, 0].tolist():
            same[row] = seen.setdefault(sha256(rows[row].numpy().tobytes()).digest(), row)
        return same

    def inputs(self, indices: Tensor, mirrored: Tensor) -> Tensor:
        """Return network inputs (B, C, H, W), those of `mirrored` (B,) bool flipped."""
        import torch

        pixels = self.pixels[indices]
        pixels = torch.where(mirrored[:, None, None, None], pixels.flip(3), pixels)
        device = self.device or pixels.device
        if device.type == "cuda" and not pixels.is_cuda:  # nobody waits for pinned memory
            pixels = pixels.pin_memory().to(device, non_blocking=True)
        return self.preprocess.normalize(pixels.to(device))


def read_labelled(
    images: ImageSet,
    preprocess: Preprocess,
    *,
    negatives: ImageSet | None = None,
    category: str | None = None,
    batch_size: int = 32,
    workers: int = 4,
    progress: Callable[[Step], None] | None = None,
) -> Labelled:
    """Decode all images of a data set with categories, and of a folder of negatives.

    Parameters
    ----------
    images : ImageSet
        With categories.
    preprocess : Preprocess
        How the network takes pixels.
    negatives : ImageSet, optional
        Images of no category.
    category : str, optional
        The only category; images of others are negatives.
    batch_size, workers : int
        Of decoding.
    progress : callable, optional
        Called with every `Step`.

    Raises
    ------
    UsageError
        When there are no categories, `category` is none of them, or there is one and no negative.
    CnnlensError
        When a category has too few images, or too many images cannot be read.
    """
    steps = labelled_steps(
        images, preprocess, negatives=negatives, category=category,
        batch_size=batch_size, workers=workers,
    )  # fmt: skip
    return followed(steps, progress)


def labelled_steps(
    images: ImageSet,
    preprocess: Preprocess,
    *,
    negatives: ImageSet | None = None,
    category: str | None = None,
    batch_size: int = 32,
    workers: int = 4,
) -> Generator[Step, None, Labelled]:
    """Do what `read_labelled` does, step by step."""
    classes, labels = _labels(images, category)
    if len(classes) == 1 and negatives is None and (labels >= 0).all():
        raise UsageError(
            f"{images.root} has one category, {classes[0]}, and nothing to tell it from",
            "name a folder of images without it: --negatives DIR",
        )
    sets = [images] if negatives is None else [images, negatives]
    found = yield from decoded_steps(
        [(one, None) for one in sets], preprocess, batch_size=batch_size, workers=workers
    )
    positions = np.where(found.sources == 0, found.positions, -1)
    kept = np.where(positions < 0, -1, labels[positions])
    made = _checked(found, kept, classes, preprocess, images)
    made.source = " ".join(one.fingerprint for one in sets)
    made.data, made.positions = images.fingerprint, positions
    return made


def _labels(images: ImageSet, category: str | None) -> tuple[list[str], np.ndarray]:
    if images.image_categories is None:
        raise UsageError(
            f"{images.root} has no categories (found: {images.kind})",
            "training needs one subfolder per class, or a parts data set",
        )
    names = sorted(set(images.image_categories))
    if category is not None:
        if category not in names:
            raise UsageError(
                f"{images.root} has no category '{category}'",
                did_you_mean(category, names) or f"it has {', '.join(names[:5])}",
            )
        return [category], np.array([0 if c == category else -1 for c in images.image_categories])
    return names, np.array([names.index(c) for c in images.image_categories])


def _checked(
    found: Decoded,
    labels: np.ndarray,
    classes: Sequence[str],
    preprocess: Preprocess,
    images: ImageSet,
) -> Labelled:
    import torch

    for number, name in enumerate(classes):
        count = int((labels == number).sum())
        if count < FEWEST:
            raise CnnlensError(
                f"category '{name}' of {Path(images.root)} has {counted(count, 'image')}",
                f"at least {FEWEST} are needed: some to train on, some to hold out",
            )
    truth = torch.from_numpy(labels.astype(np.int64))
    return Labelled(found.pixels, truth, list(classes), found.skipped, preprocess)

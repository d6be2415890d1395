"""Images that live in memory: a list of pictures, arrays or tensors, or a PyTorch Dataset."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cnnlens.data.dataset import ImageSet
from cnnlens.data.decode import DamagedImage, flat
from cnnlens.files import atomic
from cnnlens.model.preprocess import Preprocess
from cnnlens.settings.option import Field

_WHOLE = 1 << 28  # bytes of pixels that are hashed whole; of more, a sample
_SAMPLE = 16  # items of a Dataset that stand for all of it


@dataclass(frozen=True, eq=False, repr=False)
class MemoryImages(ImageSet):
    """An ordered list of images in memory; they are called ``0000.png`` and so on.

    Attributes
    ----------
    items : sequence
        Images, or (image, label) pairs; read when they are needed.
    preprocess : Preprocess or None
        How tensors that are normalised already became so: needed to show them.
    """

    items: Any = ()
    preprocess: Preprocess | None = None

    @property
    def name(self) -> str:
        """What the data is called, which names its activation stores."""
        return self.root.name

    @property
    def in_files(self) -> bool:
        """Nothing in memory is."""
        return False

    def check_there(self) -> None:
        """Nothing in memory is in a folder."""

    def item(self, index: int) -> Any:
        """Return an image as it was given.

        Raises
        ------
        DamagedImage
            When the data set fails to give it.
        """
        try:
            found = self.items[index]
        except Exception as error:  # whatever a caller's Dataset raises
            reason = f"{type(error).__name__}: {error}"
            raise DamagedImage(self.file(index), reason) from error
        return found[0] if _is_pair(found) else found

    def load(self, index: int, mode: str = "RGB") -> Image.Image:
        """Return an image as a picture of 8 bits, for people and for resampling.

        Raises
        ------
        ValueError
            When it is nothing that is an image.
        """
        item = self.item(index)
        if isinstance(item, Image.Image):
            return flat(item, mode)
        return flat(picture_of(self._shown(item, index), index), mode)

    def _shown(self, item: Any, index: int) -> Any:
        """Tensors that are normalised already, back in [0, 1] as far as that is known."""
        if not _is_float(item) or self.preprocess is None or not self.preprocess.done:
            return item
        return self.preprocess.unnormalize(_planes(item, index)[None].float())[0].clamp(0, 1)

    def pixel_type(self, preprocess: Preprocess) -> str:
        """What `pixels` gives: "float32" where the first readable image is made of floats."""
        return self._pixel_type

    @cached_property
    def _pixel_type(self) -> str:
        for index in range(len(self.paths)):
            with suppress(DamagedImage):
                return "float32" if _is_float(self.item(index)) else "uint8"
        return "uint8"

    def pixels(self, index: int, preprocess: Preprocess) -> np.ndarray:
        """Bring an image to a network's input plane; floats keep their precision.

        A tensor that is normalised already is turned back into pixels here, which `normalize`
        then undoes: what reaches the network is the tensor, to float32's rounding.
        """
        item = self.item(index)
        if self._pixel_type == "uint8":
            return super().pixels(index, preprocess)
        if not _is_float(item):
            return super().pixels(index, preprocess).astype(np.float32) / 255
        tensor = _planes(item, index).float()  # (C, H, W)
        if preprocess.done:
            if tuple(tensor.shape) != (preprocess.channels, *preprocess.size):
                raise ValueError(
                    f"image {index} is {tuple(tensor.shape)}, the network's input is "
                    f"{(preprocess.channels, *preprocess.size)}; normalised ones are not resampled"
                )
            return preprocess.unnormalize(tensor[None])[0].numpy()
        _check_range(tensor, index)
        channels = 1 if preprocess.channels == 1 else 3
        if tuple(tensor.shape) != (channels, *preprocess.size):
            return super().pixels(index, preprocess).astype(np.float32) / 255
        return np.ascontiguousarray(tensor.numpy())

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the images' content; of a Dataset, of its type, length and a sample of items."""
        listed = isinstance(self.items, list | tuple)
        count = len(self.paths)
        chosen = (
            range(count) if listed else np.linspace(0, count - 1, min(count, _SAMPLE)).astype(int)
        )
        digest = hashlib.sha256(f"{type(self.items).__qualname__}\0{count}\0".encode())
        sizes = [_array(self.item(int(index))) for index in chosen[:1]]
        stride = max(1, sum(a.nbytes for a in sizes) * len(chosen) // _WHOLE)
        for index in chosen:
            array = _array(self.item(int(index)))
            digest.update(f"{array.shape}{array.dtype}".encode())
            digest.update(np.ascontiguousarray(array.reshape(-1)[::stride]).tobytes())
        return digest.hexdigest()[:16]


def memory_images(
    images: Any,
    labels: Sequence[Any] | None = None,
    name: str = "images",
    preprocess: Preprocess | None = None,
) -> MemoryImages:
    """Make a data set of images in memory.

    Parameters
    ----------
    images : sequence
        PIL images; uint8 arrays (H, W, C) or (H, W); uint8 or [0, 1] float tensors (C, H, W); or
        pairs of one of these and a label. A ``torch.utils.data.Dataset`` of such is read item by
        item.
    labels : sequence of int or str, optional
        One per image; numbers become names by the `classes` of a Dataset, where it has them.
    name : str
        What it is called.
    preprocess : Preprocess, optional
        With `done`: floats are normalised already.

    Returns
    -------
    MemoryImages

    Raises
    ------
    ValueError
        When there is no image, or another number of labels.
    """
    count = len(images)
    if not count:
        raise ValueError("there are no images")
    if labels is None:
        labels = _labels(images, count)
    elif len(labels) != count:
        raise ValueError(f"{len(labels)} labels for {count} images")
    digits = max(4, len(str(count - 1)))
    paths = tuple(f"{index:0{digits}d}.png" for index in range(count))
    categories = None if labels is None else _names(labels, _listed(images, "classes"))
    kind = "images" if categories is None else "classes"
    return MemoryImages(Path(name), paths, kind, categories, items=images, preprocess=preprocess)


def opened_images(value: Any, labels: Sequence[Any] | None = None) -> ImageSet:
    """Make a data set of whatever images are given; one that is a data set already stays itself.

    Each has a name, and so stores, of its own, whatever others are in memory.
    """
    if isinstance(value, ImageSet):
        return value
    images = memory_images(value, labels)
    return memory_images(value, labels, name=f"images-{images.fingerprint[:6]}")


def as_typed(field: Field, value: Any, folder: Path, labels: Sequence[Any] | None = None) -> Any:
    """Bring a value that Python gives to what the command line gives: tuples, paths, opened data.

    Pictures in memory that are named one by one become files in `folder`; `labels` are those of
    data in memory.
    """
    if value is None:
        return None
    if field.keyword in ("data", "negatives"):
        if isinstance(value, (str, Path)):
            return Path(value)
        return opened_images(value, labels if field.keyword == "data" else None)
    one = isinstance(value, (str, Path)) or not isinstance(value, (list, tuple))
    several = [value] if one else list(value)
    if field.type is Path:
        files = tuple(picture_file(one, number, folder) for number, one in enumerate(several))
        return files if field.repeats else files[0]
    return tuple(map(str, several)) if field.repeats else value


def picture_file(image: Any, number: int, folder: Path) -> Path:
    """Write an image as PNG, named by its place in a list and by what it shows; say where.

    One that has a file stays there.
    """
    if isinstance(image, (str, Path)):
        return Path(image)
    buffer = io.BytesIO()
    picture_of(image).save(buffer, "PNG")
    name = f"{number:04d}-{hashlib.sha256(buffer.getvalue()).hexdigest()[:6]}"
    path = folder / f"{name}.png"
    if not path.is_file():
        with atomic(path) as temporary:
            temporary.write_bytes(buffer.getvalue())
    return path


def _labels(images: Any, count: int) -> list[Any] | None:
    """The labels of pairs; a Dataset that lists its targets need not be read through for them."""
    if not _is_pair(images[0]):
        return None
    targets = _listed(images, "targets")
    if targets is not None and len(targets) == count:
        return list(targets)
    return [images[index][1] for index in range(count)]


def _listed(images: Any, what: str) -> Any:
    """The `classes` or `targets` of a Dataset, or of the one that a Subset is taken from."""
    whole, indices = getattr(images, "dataset", None), getattr(images, "indices", None)
    if whole is None or indices is None:
        return getattr(images, what, None)
    found = _listed(whole, what)
    return found if found is None or what == "classes" else [found[index] for index in indices]


def _names(labels: Sequence[Any], classes: Sequence[str] | None) -> tuple[str, ...]:
    plain = [label.item() if hasattr(label, "item") else label for label in labels]
    if classes is None or not all(isinstance(label, int) for label in plain):
        return tuple(str(label) for label in plain)
    return tuple(str(classes[label]) for label in plain)


def _is_pair(item: Any) -> bool:
    return isinstance(item, tuple | list) and len(item) == 2


def _is_float(item: Any) -> bool:
    return isinstance(item, torch.Tensor) and item.is_floating_point()


def _planes(item: torch.Tensor, index: int) -> torch.Tensor:
    if item.ndim != 3:
        raise ValueError(f"image {index} is a tensor {tuple(item.shape)}, not (C, H, W)")
    return item.detach().cpu()


def _check_range(tensor: torch.Tensor, index: int) -> None:
    low, high = float(tensor.min()), float(tensor.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"image {index} has values from {low:.3g} to {high:.3g}, floats are expected in [0, 1];"
            " if they are normalised already, say so: Preprocess(..., done=True)"
        )


def picture_of(item: Any, index: int = 0) -> Image.Image:
    """An 8-bit picture of an array or a tensor."""
    if isinstance(item, torch.Tensor):
        tensor = _planes(item, index)
        if tensor.is_floating_point():
            _check_range(tensor, index)
            tensor = (tensor * 255).round().to(torch.uint8)
        item = tensor.permute(1, 2, 0).numpy()  # (H, W, C)
    array = np.asarray(item)
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise ValueError(
            f"image {index} is {array.dtype} {array.shape}: it may be a PIL image, a uint8 array "
            "(H, W, C), or a uint8 or [0, 1] float tensor (C, H, W)"
        )
    return Image.fromarray(array[:, :, 0] if array.ndim == 3 and channels == 1 else array)


def _array(item: Any) -> np.ndarray:
    return item.detach().cpu().numpy() if isinstance(item, torch.Tensor) else np.asarray(item)

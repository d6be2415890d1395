"""The labels of images in memory: given beside them, or the second of every pair of a Dataset."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from cnnlens.data.batches import check_skipped
from cnnlens.errors import UsageError

_FORMS = "one number or name per image; of one-hot rows: labels.argmax(1)"


def given_labels(labels: Any, count: int) -> list[Any]:
    """Return the labels that were given beside `count` images as numbers and names.

    Raises
    ------
    UsageError
        When they are other than one number or name per image.
    """
    shape = tuple(getattr(labels, "shape", ()))
    if len(shape) > 1 and shape != (count, 1):
        raise UsageError(f"labels are {shape}", _FORMS)
    try:
        values = list(labels)
    except TypeError:
        raise UsageError(f"labels is a {type(labels).__name__}", _FORMS) from None
    if isinstance(labels, (str, dict)) or len(values) != count:
        raise UsageError(f"{len(values)} labels for {count} images", _FORMS)
    plain = [plain_label(value) for value in values]
    for index, value in enumerate(plain):
        if value is None:
            what = "None" if values[index] is None else f"a {type(values[index]).__name__}"
            raise UsageError(f"label {index} is {what}", _FORMS)
    return plain


def plain_label(value: Any) -> int | str | None:
    """Return a label as a number or name; None of what is neither."""
    if getattr(value, "shape", None) is not None:
        if value.size != 1 if isinstance(value.size, int) else value.numel() != 1:
            return None
        value = value.item()
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, (int, str)) else None


def label_names(labels: Sequence[int | str], classes: Sequence[str] | None) -> tuple[str, ...]:
    """Name labels; numbers by the names of classes, where there are some."""
    if classes is None or not all(isinstance(label, int) for label in labels):
        return tuple(map(str, labels))
    try:
        return tuple(str(classes[int(label)]) for label in labels)
    except (IndexError, KeyError, TypeError):
        raise UsageError(
            f"labels run from {min(labels)} to {max(labels)}, and the data set names "
            f"{len(classes)} classes",
            "labels are numbers from 0, or names",
        ) from None


def image_in(item: Any) -> Any:
    """Return the image of an item, which may be a pair, or start as one does."""
    return item[0] if is_tuple(item) else item


def is_tuple(item: Any) -> bool:
    """Whether an item is an image with more beside it."""
    return isinstance(item, (tuple, list)) and len(item) > 0


def listed(images: Any, what: str) -> Any:
    """The `classes` or `targets` of a Dataset, or of the one that a Subset is taken from."""
    whole, indices = getattr(images, "dataset", None), getattr(images, "indices", None)
    if whole is None or indices is None:
        return getattr(images, what, None)
    found = listed(whole, what)
    return found if found is None or what == "classes" else [found[index] for index in indices]


def has_labels(items: Any, count: int) -> bool:
    """Whether the first item that can be read has something beside its image."""
    for index in range(count):
        with suppress(Exception):  # whatever a caller's Dataset raises
            item = items[index]
            return is_tuple(item) and len(item) > 1
    return False


def item_labels(
    items: Any, paths: Sequence[str]
) -> tuple[list[Any] | None, frozenset[int], list[str]]:
    """Read the labels of items that have some.

    Parameters
    ----------
    items : sequence
        Of (image, label) and more. One that lists its `targets` need not be read through.
    paths : sequence of str
        What the images are called.

    Returns
    -------
    labels : list of int or str, or None
        Of the items that can be read; None where they are other than one number or name each.
    lost : frozenset of int
        The items that cannot be read.
    notes : list of str
        What is to be said.

    Raises
    ------
    CnnlensError
        When too many of them cannot be read.
    """
    targets, notes = listed(items, "targets"), []
    lost: dict[int, tuple[str, str]] = {}
    if targets is not None and len(targets) == len(paths):
        values = list(targets)
    else:
        values = []
        for index, path in enumerate(paths):
            try:
                values.append(items[index][1])
            except Exception as error:  # whatever a caller's Dataset raises
                lost[index] = path, f"{type(error).__name__}: {error}"
    if lost:
        check_skipped(list(lost.values()), len(paths))
        first = ": ".join(next(iter(lost.values())))
        notes.append(f"{len(lost)} of {len(paths)} items cannot be read ({first})")
    plain = [plain_label(value) for value in values]
    if None in plain:
        other = values[plain.index(None)]
        notes.append(
            f"labels are left out: they are no number or name per image (a {type(other).__name__})"
        )
        return None, frozenset(lost), notes
    return plain, frozenset(lost), notes

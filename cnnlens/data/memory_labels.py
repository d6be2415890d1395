"""The labels of images in memory: given beside them, or the second of every pair of a Dataset."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from cnnlens.data.batches import check_skipped
from cnnlens.data.memory_marks import looked_at
from cnnlens.errors import UsageError
from cnnlens.model.numbered import OutputName

_CLASSES = 64  # of which an item is looked at, to see what its label is
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
    """Name labels; numbers, which stay known, by the names of classes, where there are some."""
    if not all(isinstance(label, int) for label in labels):
        return tuple(map(str, labels))
    numbers = [int(label) for label in labels]
    if classes is None and min(numbers) < 0:
        return tuple(map(str, numbers))  # no numbers of outputs
    if classes is None:
        return tuple(OutputName(str(number), number) for number in numbers)
    try:
        if min(numbers) < 0:
            raise IndexError
        return tuple(OutputName(str(classes[n]), n, len(classes)) for n in numbers)
    except (IndexError, KeyError, TypeError):
        raise UsageError(
            f"labels run from {min(labels)} to {max(labels)}, and the data set names "
            f"{len(classes)} classes",
            "labels are numbers from 0, or names",
        ) from None


def unlabelled(labels: Sequence[int | str], classes: Sequence[str] | None) -> set[int]:
    """Find the images whose label is -1, PyTorch's word for none.

    Where nothing names the classes, and none of them is 0, -1 is one of two signs.
    """
    if not all(isinstance(label, int) and label >= -1 for label in labels):
        return set()
    without = {place for place, label in enumerate(labels) if label == -1}
    if classes is None and 0 not in labels and len(without) < len(labels):
        return set()
    return without


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
    if found is None or what == "classes":
        return found
    placed = getattr(found, "iloc", found)  # of a column of pandas
    return [placed[index] for index in indices]


def has_labels(items: Any, count: int) -> bool:
    """Whether the first item that can be read has something beside its image."""
    for index in range(count):
        with suppress(Exception):  # whatever a caller's Dataset raises
            item = items[index]
            return is_tuple(item) and len(item) > 1
    return False


def _are_those_of(items: Any, targets: Sequence[int | str | None]) -> bool:
    """Whether the targets that a Dataset lists are the labels that its items have: some are raw,
    and changed on the way, as by torchvision's ``target_transform``.
    """
    places = dict.fromkeys(looked_at(items, len(targets)))
    seen = {targets[place] for place in places}
    unseen = {target: place for place, target in enumerate(targets) if target not in seen}
    for place in (*places, *list(unseen.values())[:_CLASSES]):
        with suppress(Exception):  # whatever a caller's Dataset raises
            item = items[place]
            if is_tuple(item) and len(item) > 1 and plain_label(item[1]) != targets[place]:
                return False
    return True


def item_labels(
    items: Any, paths: Sequence[str]
) -> tuple[list[Any] | None, frozenset[int], list[str]]:
    """Read the labels of items that have some.

    Parameters
    ----------
    items : sequence
        Of (image, label) and more. One that lists its `targets` is not read through, where those
        are the labels of the items that are looked at, some of every class among them.
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
    listed_all = targets is not None and len(targets) == len(paths)
    values = list(targets) if listed_all else []
    if listed_all and not _are_those_of(items, [plain_label(value) for value in values]):
        notes.append("labels are those of the items: what `targets` lists is other than that")
        listed_all, values = False, []
    if not listed_all:
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

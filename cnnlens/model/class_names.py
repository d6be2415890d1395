"""Names of a network's outputs, from where people keep them: a file, a checkpoint, ImageNet's."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from cnnlens.errors import UsageError, did_you_mean
from cnnlens.model.compiler_later import imported
from cnnlens.settings.option import plain

IMAGENET = "imagenet"
#: what the source of names begins with that nobody has said
# keys of a checkpoint that hold names, and those below which it keeps what it was trained with
_KEYS = ("classes", "class_names", "class_to_idx", "idx_to_class", "names", "label_names",
         "id2label", "CLASSES")  # fmt: skip
_PERHAPS = ("labels", "categories")  # as often those of images: only texts, each once, are names
_BELOW = (
    "args", "hparams", "hyper_parameters", "config", "cfg", "meta", "dataset_meta", "model", "ema",
)  # fmt: skip
_DEEP = 4  # levels that are searched
_SYNSET = re.compile(r"n\d{8}")
# one name per line, numbered before or behind: "0 tench", "1: red", "/a/airfield 0"
_NUMBERED = (re.compile(r"(?P<n>\d+)\s*[\s:,]\s*(?P<name>.+)"),
             re.compile(r"(?P<name>.+?)[\s,]+(?P<n>\d+)"))  # fmt: skip


def imagenet_classes() -> list[str]:
    """Names of ImageNet's thousand classes, in the order every registry uses."""
    weights = imported("torchvision.models").ResNet18_Weights
    return list(weights.IMAGENET1K_V1.meta["categories"])


@cache
def imagenet_synsets() -> dict[str, int]:
    """Number of each of ImageNet's thousand classes by its WordNet id, ``n01440764``."""
    text = resources.files("cnnlens.model").joinpath("imagenet_synsets.txt").read_text("ascii")
    return {synset: number for number, synset in enumerate(text.split())}


# ---- files


def read_classes(text: str) -> list[str]:
    """Read what ``--classes`` names: a file, or ``imagenet``.

    Parameters
    ----------
    text : str
        A file of one name per line (numbers before or behind them are left out), a JSON list, an
        index map (``{"0": "tench"}``, ``{"0": ["n01440764", "tench"]}``, ``{"tench": 0}``), or a
        JSON that holds one as a checkpoint does; or ``imagenet``.

    Returns
    -------
    list of str
        In the outputs' order.

    Raises
    ------
    UsageError
        When there is no such file, or it holds no names.
    """
    path = Path(text).expanduser()
    if not path.is_file():
        if text.lower() == IMAGENET:
            return imagenet_classes()
        raise UsageError(
            f"--classes {text} is no file",
            did_you_mean(text, [IMAGENET]) or "name a file with one class per line, or imagenet",
        )
    try:
        content = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--classes {text} cannot be read: {error}", "it must be text") from None
    names = _of_structure(content) if content.lstrip()[:1] in ("{", "[") else _of_lines(content)
    if not names:
        raise UsageError(
            f"--classes {text} holds no list of names",
            'write one per line, ["a", "b"], or {"0": "a", "1": "b"}, all numbers from 0 on',
        )
    return names


def _of_structure(content: str) -> list[str] | None:
    """Read a JSON; or what Python prints of a dict or list, as some lists of ImageNet are kept."""
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(content)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        inner = names_in(found) if isinstance(found, Mapping) else None
        return as_names(found) or (inner[0] if inner else None)
    return None


def _of_lines(content: str) -> list[str] | None:
    """Read one name per line; None where a line among them is empty."""
    lines = [line.strip() for line in content.rstrip().splitlines()]
    if not all(lines):
        return None
    for pattern in _NUMBERED:
        found = [pattern.fullmatch(line) for line in lines]
        numbers = [int(one["n"]) if one else None for one in found]
        if numbers in (list(range(len(lines))), list(range(1, len(lines) + 1))):
            lines = [one["name"] for one in found if one]
            break
    return as_names([re.split(r"\s+", line, maxsplit=1) if _has_synset(line) else line
                     for line in lines])  # fmt: skip


def _has_synset(line: str) -> bool:
    return _SYNSET.fullmatch(line.partition(" ")[0]) is not None


# ---- Python


def given_names(classes: Any) -> list[str]:
    """Read names of outputs that Python gives.

    Parameters
    ----------
    classes : sequence of str, or mapping
        One per output, in their order; or what tells each one's number, in either direction:
        ``class_to_idx``, ``id2label``.

    Raises
    ------
    UsageError
        When they have no order, or not all numbers from 0 on.
    """
    if isinstance(classes, Mapping):
        if (names := as_names(classes)) is None:
            raise UsageError(
                "classes= is a dict that does not number its names from 0 on",
                'each name once and no number left out: {"cat": 0, "dog": 1}',
            )
        return names
    if isinstance(classes, (str, bytes, set, frozenset)) or not isinstance(classes, Iterable):
        raise UsageError(
            f"classes={classes!r:.60}: a list of names is needed, one per output, in their order",
            'or a dict of their numbers: {"cat": 0, "dog": 1}',
        )
    return [str(name) for name in classes]


# ---- checkpoints


def names_in(content: Any) -> tuple[list[str], str] | None:
    """Find the names of a network's outputs in a checkpoint's content.

    Parameters
    ----------
    content : object
        What the file holds; anything but mappings and namespaces holds no names.

    Returns
    -------
    (list of str, str) or None
        The names in the outputs' order, and the key that held them: ``meta.dataset_meta.classes``.
    """
    for keys, read in ((_KEYS, as_names), (_PERHAPS, _texts)):
        for key, found in _kept(content, keys, _DEEP):
            if (names := read(found)) is not None:
                return names, key
    return None


def unread_in(content: Any) -> str | None:
    """The key of a checkpoint under which there is more than a number, and no names in an order."""
    kept = _kept(content, (*_KEYS, *_PERHAPS), _DEEP)
    kinds = (Mapping, list, tuple, set, frozenset, np.ndarray)
    return next((key for key, found in kept if isinstance(found, kinds) and len(found)), None)


def _kept(content: Any, keys: Iterable[str], deep: int) -> Iterator[tuple[str, Any]]:
    """What a checkpoint keeps under some keys, the upper levels first."""
    if not isinstance(content, Mapping):
        content = getattr(content, "__dict__", None)  # an argparse.Namespace
    if not isinstance(content, Mapping) or deep < 1:
        return
    yield from ((key, content[key]) for key in keys if key in content)
    for below in _BELOW:
        for key, found in _kept(content.get(below), keys, deep - 1):
            yield f"{below}.{key}", found


def _texts(found: Any) -> list[str] | None:
    """Names, where they are texts and no two the same."""
    found = _listed(found)
    values = list(found.values()) if isinstance(found, Mapping) else found
    if not isinstance(values, list | tuple) or not all(isinstance(one, str) for one in values):
        return None
    return as_names(found) if len(set(values)) == len(values) else None


def _listed(found: Any) -> Any:
    """A row of NumPy's as a list, and its numbers in a map as Python's."""
    if isinstance(found, np.ndarray) and found.ndim == 1:
        return found.tolist()
    if isinstance(found, Mapping):
        return {plain(key): plain(value) for key, value in found.items()}
    return found


def as_names(found: Any) -> list[str] | None:
    """Read a list of names, or an index map in either direction; None where it is neither."""
    found = _listed(found)
    if isinstance(found, Mapping):
        found = _in_order(found)
    if not isinstance(found, Sequence) or isinstance(found, (str, bytes)) or len(found) == 0:
        return None
    names = [_one_name(name) for name in found]
    if any(name is None for name in names):
        return None
    return _said_in_words([name for name in names if name is not None])


def _in_order(found: Mapping[Any, Any]) -> list[Any] | None:
    """Entries of a map by number, as 0: "a" or "a": 0; None where a number is missing or twice."""
    numbers = [value for value in found.values() if isinstance(value, int)]
    if len(numbers) == len(found):  # where both are numbers, the values count: class_to_idx
        pairs = {value: str(key) for key, value in found.items()}
    else:
        pairs = {_number(key): value for key, value in found.items()}
    if set(pairs) != set(range(len(found))):
        return None
    return [pairs[number] for number in range(len(found))]


def _number(key: Any) -> Any:
    return int(key) if isinstance(key, str) and key.strip().isdecimal() else key


def _one_name(value: Any) -> str | None:
    """A name as it is; of a synset and its name, the name, and the synset where it says more."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, Sequence) or not all(isinstance(part, str) for part in value):
        return None
    words = [part for part in value if not _SYNSET.fullmatch(part)]
    synsets = [part for part in value if _SYNSET.fullmatch(part)]
    kept = synsets if not words or any(one not in imagenet_synsets() for one in synsets) else []
    return ", ".join(part.strip() for part in (*words, *kept)) or None


def _said_in_words(names: list[str]) -> list[str]:
    """ImageNet's names for its synsets, where all names are such."""
    known = imagenet_synsets()
    if not all(name in known for name in names):
        return names
    words = imagenet_classes()
    return [words[known[name]] for name in names]

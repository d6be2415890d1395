"""The architecture of a bare state dict, inferred from the names and shapes of its tensors.

torchvision's networks come first, and one that fits wins. Its families give themselves away by
the names of their tensors, so that few have to be built. timm has over a thousand, which are built
only as far as their layers are those of the state dict.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import nn

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.files import atomic
from cnnlens.files.home import cache_home
from cnnlens.model import zoo
from cnnlens.model.architectures import Architecture, Shapes, shapes_of, timm, torchvision
from cnnlens.model.fit import Fit, fit, quick_fit, replace_module
from cnnlens.model.outline import skeleton

_ALIKE = 0.5  # of the names; half of them of the same shape: what has less in common is no nearest
_NEAREST = 4  # of timm's, so many that were alike for longest are compared in full


def search(shapes: Shapes) -> list[Fit]:
    """All architectures that a state dict fits exactly, else the nearest ones."""
    if exact := search_own(shapes):
        return exact
    own = _own(shapes)
    first = timm.likely(shapes)
    quick = []
    for names in (first, [n for n in timm.names() if n not in set(first)]):
        quick += [(a, *quick_fit(a, shapes)) for a in map(timm.architecture, names)]
        exact = [f for _, f, *_ in quick if f is not None]
        if exact:
            return exact
    near = [fit(a, shapes) for a in [*own, *_nearest(quick)]]
    # a builder that makes layers only to measure them has been given up too early
    return [f for f in near if f.exact] or _closest(near)


def _nearest(quick: Sequence[tuple[Architecture, Fit | None, int, float]]) -> list[Architecture]:
    """Those that were alike for longest, and those that were closest where built to their ends."""
    longest = sorted((entry for entry in quick if entry[2]), key=lambda entry: -entry[2])
    near = [a for a, *_ in longest[:_NEAREST]]
    best = max((closeness for *_, closeness in quick), default=0.0)
    return near + [a for a, *_, close in quick if best and close == best and a not in near]


def _closest(near: Sequence[Fit]) -> list[Fit]:
    """The closest few; networks of the same tensors are equally close, and none of them is lost."""
    best = sorted(near, key=lambda f: -f.closeness)
    equal = sum(f.closeness == best[0].closeness for f in best)
    return best[: max(_NEAREST, equal)]


def _own(shapes: Shapes) -> list[Architecture]:
    own = [torchvision.architecture(n) for n in torchvision.likely(shapes)]
    return own + [zoo.architecture(n) for n in zoo.likely(shapes)]


def search_own(shapes: Shapes) -> list[Fit]:
    """Networks of torchvision and of the zoo that a state dict fits exactly."""
    return [f for a in _own(shapes) if (f := quick_fit(a, shapes)[0]) is not None]


def search_likely(shapes: Shapes) -> list[Fit]:
    """Networks of timm that a state dict fits exactly, of those that its names make likely."""
    likely = map(timm.architecture, timm.likely(shapes))
    return [f for a in likely if (f := quick_fit(a, shapes)[0]) is not None]


def nearest_own(shapes: Shapes) -> list[Fit]:
    """Those that are alike for longest, compared in full."""
    alike = [(quick_fit(a, shapes)[1], a) for a in _own(shapes)]
    longest = sorted((pair for pair in alike if pair[0]), key=lambda pair: -pair[0])[:_NEAREST]
    return [fit(a, shapes) for _, a in longest]


def one_of(exact: Sequence[Fit], what: str) -> Fit:
    """Choose among exact fits, with the changes made for them, where all compute the same."""
    if len(exact) == 1 or _all_equal(_behaviours(exact)):
        return min(exact, key=lambda f: len(f.architecture.name))
    names = [f.architecture.name for f in exact]
    more = f", … ({len(names)} in all)" if len(names) > 8 else ""
    raise UsageError(
        f"{what} fits several architectures: {', '.join(names[:8])}{more}",
        f"say which one with --arch, e.g. --arch {names[0]}",
    )


def _all_equal(things: Iterator[Any]) -> bool:
    first = next(things)
    return all(thing == first for thing in things)


def _behaviours(fits: Sequence[Fit]) -> Iterator[Any]:
    """What decides how each network computes, beside its weights, and how it is to be fed."""
    for found in fits:
        net = skeleton(found.architecture, found.options)
        for change in found.changes:
            replace_module(net, change.path, change.make())
        yield found.architecture.preprocess(net), [_settings(n, m) for n, m in net.named_modules()]


def same_network(plain: Architecture, found: Fit) -> bool:
    """Whether a plain architecture, fitted to the same shapes, is the network of another fit."""
    shapes = shapes_of(skeleton(found.architecture, found.options).state_dict())
    other = fit(plain, shapes)
    return other.exact and _all_equal(_behaviours([other, found]))


def _settings(name: str, module: nn.Module) -> tuple[Any, ...]:
    plain = {
        k: v if isinstance(v, int | float | str | tuple | None) else getattr(v, "__qualname__", "")
        for k, v in vars(module).items()
        if not k.startswith("_") and k not in ("training", "pretrained_cfg", "default_cfg")
    }
    return name, type(module), plain


def no_fit(near: Sequence[Fit], shapes: Shapes, what: str) -> CnnlensError:
    """Say that nothing fits a state dict, and how near the nearest is."""
    found = max(near, key=lambda f: f.closeness)
    alike = (found.fitting + len(found.differing)) / max(found.total, 1)
    if alike < _ALIKE and found.fitting < _ALIKE / 2 * found.total:
        first = ", ".join(list(shapes)[:3])
        return CnnlensError(
            f"{what} fits no known architecture (it begins with {first})", found.hint()
        )
    return CnnlensError(
        f"{what} fits no known architecture; nearest is {found.architecture.name}: "
        f"{found.describe()}",
        found.hint(),
    )


# ---- what was found, kept so that nothing is searched twice
#
# Inference depends on names and shapes of tensors and on nothing else in a file, so that these are
# the key, with the installed versions: all checkpoints of a training run share one entry, wherever
# they lie, and no change of a file leaves a stale one. They are those of all views of a file: which
# of its networks is opened then depends on nothing that was opened before. Kept are names of
# candidates, which are held against the shapes anew, so that a wrong one is never built.

version = cache(metadata.version)  # of a package: files are read for it
_PACKAGES = ("cnnlens", "torch", "torchvision", "timm")


@dataclass(frozen=True)
class Kept:
    """What a search found.

    Attributes
    ----------
    names : list of (int, str)
        Numbers of views, and names of the architectures that are candidates for them.
    fits : bool
        Whether they fitted; else they are the nearest.
    """

    names: list[tuple[int, str]]
    fits: bool


def found_before(kept: Kept, views: Sequence[Shapes]) -> list[tuple[int, list[Fit]]]:
    """Hold what an earlier search found against the state dict anew; nothing where damaged."""
    rooms: dict[str, Any] = {"torchvision": torchvision, "zoo": zoo, "timm": timm}
    found: dict[int, list[Fit]] = {}
    try:
        for number, name in kept.names:
            room, _, plain = name.partition(":")
            known = rooms[room].architecture(plain)
            found.setdefault(number, []).append(fit(known, views[number]))
    except (UsageError, KeyError, IndexError):
        return []
    return list(found.items())


def recall(views: Sequence[Shapes]) -> Kept | None:
    """What was found for these names and shapes of tensors.

    Returns
    -------
    Kept or None
        None where nothing was kept, or it cannot be read.
    """
    try:
        content = json.loads(_place(views).read_text(encoding="utf-8"))
        names = [(int(number), str(name)) for number, name in content["candidates"]]
        return Kept(names, bool(content["fits"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(views: Sequence[Shapes], kept: Kept) -> None:
    """Keep what was found; where nothing can be written, nothing is kept."""
    content = json.dumps({"candidates": kept.names, "fits": kept.fits})
    with suppress(OSError, CnnlensError), atomic(_place(views)) as temporary:
        temporary.write_text(content, encoding="utf-8")


def _place(views: Sequence[Shapes]) -> Path:
    versions = [_version(package) for package in _PACKAGES]
    text = json.dumps([versions, sorted(zoo.ZOO), [sorted(shapes.items()) for shapes in views]])
    return cache_home() / "architectures" / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def _version(package: str) -> str:
    try:
        return version(package)
    except metadata.PackageNotFoundError:
        return ""

"""A state dict's network: below which prefix it is, of which architecture, with which changes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from cnnlens.model.adapt import adapt
from cnnlens.model.architectures import Architecture, registry, shapes_of
from cnnlens.model.entries import View
from cnnlens.model.fit import Fit, fit
from cnnlens.model.infer import (
    Kept,
    found_before,
    nearest_own,
    no_fit,
    one_of,
    recall,
    remember,
    search,
    search_own,
)
from cnnlens.model.outline import skeleton

# heads of self-supervised training, whose outputs are no classes
_PROJECTION = re.compile(r"mlp|proj|predict|rot|contrast")
# what is no layer between a body and its head, by its name
_APART = re.compile(
    r"loss|criterion|metric|acc|confmat|auroc|f1|precision|recall|queue|weights$|decoder|aux|"
    r"teacher|ema|percept|norm\w*\.(?!running)(\w+_)?(mean|std|sigma)$"
)
Found = tuple[View, Fit]
_SEARCHED = 2  # views that timm's thousand are held against


def recognise(views: Sequence[View], what: str, hint: str | None = None) -> Found:
    """Find the network that a state dict holds.

    Parameters
    ----------
    views : sequence of View
        Where its names may begin, the likeliest first.
    what : str
        How to call the state dict in messages.
    hint : str, optional
        What the file itself calls its architecture, where several fit.

    Raises
    ------
    UsageError
        When several architectures fit that may compute different things.
    CnnlensError
        When none does; says how near the nearest was.
    """
    near: list[tuple[int, list[Fit]]] = []
    for number, fits in _candidates(views):
        view = views[number]
        exact = [f for f in fits if f.exact]
        changed = [] if exact else _changed(view, fits)
        if exact or changed:
            _keep(views, [(number, exact or [f for _, f in changed])], True)
        if exact:
            return _with_head(view, one_of(_hinted(exact, hint), what))
        if changed:
            fitted = _hinted([a for a, _ in changed], hint)
            return _with_head(view, min(fitted, key=_changes))
        near.append((number, fits))
    _keep(views, near, False)
    fits = [f for _, found in near for f in found]
    best = max(near, key=lambda pair: max((f.closeness for f in pair[1]), default=0.0))[0]
    plain = min(views, key=lambda view: (len(view.stripped), view is not views[best]))
    raise no_fit(fits, shapes_of(plain.state), what)


def _changed(view: View, fits: Sequence[Fit]) -> list[tuple[Fit, Fit]]:
    """Those that fit with another head or stem, each with what it was before."""
    found = [(adapt(f, shapes_of(view.state)), f) for f in fits]
    return [(a, f) for a, f in found if a is not None]


def _changes(found: Fit) -> tuple[int, bool]:
    """Sorts first what is changed least; torchvision's are changed more often than the zoo's."""
    return len(found.changes), not found.architecture.name.startswith("torchvision:")


def _keep(views: Sequence[View], found: Sequence[tuple[int, list[Fit]]], fits: bool) -> None:
    shapes = [shapes_of(view.state) for view in views]
    names = [(number, f.architecture.name) for number, near in found for f in near]
    if (kept := Kept(names, fits)) != recall(shapes):
        remember(shapes, kept)


def _candidates(views: Sequence[View]) -> Iterator[tuple[int, list[Fit]]]:
    """What may fit, and the number of its view: what is quickly told, then all of timm.

    What was found before for all of these views stands in the place of a search; what was found for
    one of them in another file does not, where it may stand behind others.
    """
    shapes = [shapes_of(view.state) for view in views]
    known = recall(shapes)
    if known is not None and (before := found_before(known, shapes)):
        yield from before
        if not known.fits:
            return
    for look in (search_own, nearest_own):
        for number, one in enumerate(shapes):
            if found := look(one):
                yield number, found
    likely = [n for n, view in enumerate(views) if not view.rank[0]][:_SEARCHED]
    for number in likely or [0]:
        yield number, search(shapes[number])


def _hinted(fits: list[Fit], hint: str | None) -> list[Fit]:
    """Those that are called as the file says, where there are any."""
    said = [f for f in fits if f.architecture.name.partition(":")[2] == hint]
    return said or fits


def held_against(arch: str, views: Sequence[View]) -> Found:
    """Hold a named architecture against all views; return the one that fits best.

    Raises
    ------
    UsageError
        When there is no such architecture.
    """
    known = registry.architecture(arch)
    surgery = not registry.is_factory(arch)
    best: Found | None = None
    for view in views:
        shapes = shapes_of(view.state)
        plain = fit(known, shapes)
        found = plain if plain.exact else adapt(plain, shapes, surgery) or plain
        if found.exact and not found.left_out:
            return _with_head(view, found)
        if best is None or (found.exact, found.closeness) > (best[1].exact, best[1].closeness):
            best = view, found
    assert best is not None  # there is always one view
    return _with_head(*best)


def _with_head(view: View, found: Fit) -> Found:
    """Give a headless network the head that lies beside it and takes its features."""
    cut = [change.path for change in found.changes if change.headless]
    for start, at in (
        [*_linear_beside(view, found, cut[0]), *_next_in_sequence(view, cut[0])] if cut else ()
    ):
        head = {f"{at}.{k.removeprefix(start)}": v
                for k, v in view.beside.items() if k.startswith(start)}  # fmt: skip
        state = {**view.state, **head}
        again = fit(found.architecture, shapes_of(state))
        again = again if again.exact else adapt(again, shapes_of(state)) or again
        if again.exact and not again.headless:
            beside = {k: v for k, v in view.beside.items() if not k.startswith(start)}
            said = (*view.stripped, f"{start[:-1]} taken for {at}")
            return replace(view, state=state, beside=beside, stripped=said), again
    return view, found


def _linear_beside(view: View, found: Fit, cut: str) -> Iterator[tuple[str, str]]:
    """The one linear layer beside a network that reads its features, and whose place it takes.

    Not where there is more beside that may stand between them: a norm, a scale, a convolution.
    """
    wide = [k for k, v in view.beside.items() if v.ndim == 2 and k.endswith(".weight")]
    if len(wide) != 1 or _PROJECTION.search(wide[0]):
        return
    start, own = wide[0].removesuffix("weight"), _linear(found.architecture, found, cut)
    if any(
        tensor.is_floating_point() and not name.startswith(start) and not _APART.search(name)
        for name, tensor in view.beside.items()
    ):
        return
    if f"{start}bias" in view.beside and own and view.beside[wide[0]].shape[1] == own[1]:
        yield start, own[0]


def _next_in_sequence(view: View, cut: str) -> Iterator[tuple[str, str]]:
    """What follows a body in a sequence of two, as fastai has them."""
    start = f"{view.prefix.removesuffix('0.')}1."
    if re.search(r"(^|\.)0\.$", view.prefix) and any(k.startswith(start) for k in view.beside):
        yield start, cut


def _linear(known: Architecture, found: Fit, cut: str) -> tuple[str, int] | None:
    """Name and inputs of the one linear layer that was cut off."""
    from torch import nn

    part = skeleton(known, found.options).get_submodule(cut)
    linear = [(n, m.in_features) for n, m in part.named_modules() if isinstance(m, nn.Linear)]
    if len(linear) != 1:
        return None
    return f"{cut}.{linear[0][0]}".rstrip("."), linear[0][1]

"""A state dict's network: below which prefix it is, of which architecture, with which changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.model.adapt import adapt
from cnnlens.model.architectures import Architecture, Shapes, registry, shapes_of
from cnnlens.model.architectures.own_code import is_factory
from cnnlens.model.beside import with_head
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
    search_likely,
    search_own,
)
from cnnlens.model.module_names import nearest, told_apart
from cnnlens.model.parts import rivals, two_networks

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
        What the file itself calls its architecture, which is taken where it fits, or a pattern of
        it, by which one of several is.

    Raises
    ------
    UsageError
        When several architectures fit that may compute different things.
    CnnlensError
        When none does; says how near the nearest was. When what does may be no more than a loss
        beside the network; names both.
    """
    found = _likeliest(views, what, hint)
    return _main(found, views, what, hint)


def is_known(views: Sequence[View], hint: str | None = None) -> bool:
    """Whether a state dict is a network that opens, of torchvision's or the zoo's: timm's thousand
    are not asked.
    """
    shapes = [shapes_of(view.state) for view in views]
    if not any(search_own(one) or _adapts(one) for one in shapes):
        return False
    try:
        recognise(views, "", hint)
    except CnnlensError:
        return False
    return True


def _adapts(shapes: Shapes) -> bool:
    return any(adapt(near, shapes) is not None for near in nearest_own(shapes))


def _main(found: Found, views: Sequence[View], what: str, hint: str | None) -> Found:
    """What was found, or what lies beside it and is the file's network rather."""
    view, known = found
    unknown = []
    for part, before in rivals(view, known):
        if not before and part.known_as(views, known) is not None:
            continue
        try:
            other = _likeliest(inside, what, hint) if (inside := part.views(views)) else None
        except UsageError:  # several known ones fit
            if before:
                raise
            continue
        except CnnlensError:
            other = None
        if other is None:
            unknown.append(part)
        elif before:
            return other
    if unknown:
        raise two_networks(what, view, known, unknown)
    return found


def _likeliest(views: Sequence[View], what: str, hint: str | None) -> Found:
    if (found := _named(views, hint)) is not None:
        return found
    near: list[tuple[int, list[Fit]]] = []
    for number, fits in _candidates(views):
        view = views[number]
        exact = [f for f in fits if f.exact]
        changed = [] if exact else _changed(view, fits)
        if exact or changed:
            _keep(views, [(number, exact or [f for _, f in changed])], True)
        if exact:
            one = one_of(nearest(view, _hinted(exact, hint)), what)
            return with_head(view, told_apart(view, one))
        if changed:
            fitted = _hinted([a for a, _ in changed], hint)
            least = _changes(min(fitted, key=_changes))
            one = one_of(nearest(view, [f for f in fitted if _changes(f) == least]), what)
            return with_head(view, told_apart(view, one))
        near.append((number, fits))
    _keep(views, near, False)
    fits = [f for _, found in near for f in found]
    best = max(near, key=lambda pair: max((f.closeness for f in pair[1]), default=0.0))[0]
    plain = min(views, key=lambda view: (len(view.stripped), view is not views[best]))
    raise no_fit(fits, shapes_of(plain.state), what)


def _named(views: Sequence[View], name: str | None) -> Found | None:
    """The network of that name, where it fits exactly: others of the same tensors are not asked.

    Of two libraries that have it the first counts, but for timm's that fits whole where
    torchvision's would lose its head.
    """
    for number, known in enumerate(registry.named(name) if name else ()):
        for view in views:
            found = _fit(known, shapes_of(view.state))
            if found is not None and (number == 0 or not found.has_features):
                return with_head(view, found)
    return None


def _fit(known: Architecture, shapes: Shapes) -> Fit | None:
    """An exact fit, or none."""
    try:
        found = fit(known, shapes)
    except Exception:  # whatever a builder makes of what it reads off other shapes
        return None
    return found if found.exact else None


def _changed(view: View, fits: Sequence[Fit]) -> list[tuple[Fit, Fit]]:
    """Those that fit with another head or stem, each with what it was before."""
    found = [(adapt(f, shapes_of(view.state)), f) for f in fits]
    return [(a, f) for a, f in found if a is not None]


def _changes(found: Fit) -> tuple[int, int, bool]:
    """Sorts first what leaves least out and is changed least; torchvision's are changed more often
    than the zoo's.
    """
    own = found.architecture.name.startswith("torchvision:")
    return len(found.left_out), len(found.changes), not own


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
    for look in (search_own, _near):
        for number, one in enumerate(shapes):
            if found := look(one):
                yield number, found
    likely = [n for n, view in enumerate(views) if not view.rank[0]][:_SEARCHED]
    # a part may begin as known networks do where the whole does not: timm's DLA
    whole = [n for n, view in enumerate(views) if not view.prefix][:1]
    for number in dict.fromkeys([*likely, *whole] or [0]):
        yield number, search(shapes[number])


def _near(shapes: Shapes) -> list[Fit]:
    """torchvision's and the zoo's nearest; or timm's that fit, where those would lose their head
    and leave weights out: its VGGs have the body of torchvision's, and another head.
    """
    near = nearest_own(shapes)
    adapted = [one for found in near if (one := adapt(found, shapes)) is not None]
    loses = [
        found.headless and any(len(shapes[k]) > 1 for k in found.left_out) for found in adapted
    ]
    return (search_likely(shapes) if loses and all(loses) else []) or near


def _hinted(fits: list[Fit], hint: str | None) -> list[Fit]:
    """Those that are called as the file says, or its names tell, where there are any."""
    said = [f for f in fits if fnmatchcase(f.architecture.name.partition(":")[2], hint or "")]
    return said or fits


def held_against(arch: str, views: Sequence[View]) -> Found:
    """Hold a named architecture against all views; return the one that fits best.

    Of a bare name that several libraries have, the one that fits exactly.

    Raises
    ------
    UsageError
        When there is no such architecture.
    """
    known = registry.architecture(arch)
    if (named := _named(views, arch)) is not None:
        return named
    surgery = not is_factory(arch)
    best: Found | None = None
    for view in views:
        shapes = shapes_of(view.state)
        plain = fit(known, shapes)
        found = plain if plain.exact else adapt(plain, shapes, surgery) or plain
        if found.exact and not found.left_out:
            return with_head(view, found)
        if best is None or (found.exact, found.closeness) > (best[1].exact, best[1].closeness):
            best = view, found
    assert best is not None  # there is always one view
    return with_head(*best)

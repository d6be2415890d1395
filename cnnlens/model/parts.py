"""Networks beside another in a state dict: which is the main one, and which can be opened, too.

A file may hold a network of the user's own, which fits nothing known, beside one that does: that
of a perceptual loss, a discriminator, a teacher. The second is no answer to what is asked of the
first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from cnnlens.errors import CnnlensError, first_of
from cnnlens.model.adapt import adapt
from cnnlens.model.architectures import shapes_of
from cnnlens.model.entries import SECOND, USUAL, View
from cnnlens.model.fit import Fit, fit
from cnnlens.model.infer import nearest_own, search_own

_MAIN = {*USUAL, "backbone", "encoder", "body", "trunk"}
_COLOURS = 3
_SECOND = 2  # of `standing`
_LAYERS = 4  # of vectors, at least, that are more than a head


@dataclass(frozen=True)
class Part:
    """What lies beside a network, below one beginning of names.

    Attributes
    ----------
    name : str
        That beginning, as ``--weights`` takes it.
    state : dict
        Its weights by their whole names, in their order: no vectors, no numbers.
    """

    name: str
    state: dict[str, Tensor]

    def reads_images(self, channels: int) -> bool:
        """Whether its first convolution takes as many channels as images have."""
        return stem_channels(self.state, 0) in {_COLOURS, channels} - {1, 0}

    def is_network(self) -> bool:
        """Whether it may be one: it convolves, or is no mere head."""
        return any(t.ndim > 2 for t in self.state.values()) or len(self.state) >= _LAYERS

    def known_as(self, views: Sequence[View], like: Fit) -> str | None:
        """Where in it a network begins that is quickly told to be known: one of torchvision's, of
        the zoo, or of another one's kind; None where none does.
        """
        found = (view.prefix.rstrip(".") for view in self.views(views) if _fits(view, like))
        return next(found, None)

    def views(self, views: Sequence[View]) -> list[View]:
        """Those of a file's views that lie within it, with nothing beside them from outside."""
        start = f"{self.name}."
        return [
            replace(v, beside={k: t for k, t in v.beside.items() if k.startswith(start)})
            for v in views
            if v.prefix.startswith(start)
        ]


def _fits(view: View, like: Fit) -> bool:
    shapes = shapes_of(view.state)
    if search_own(shapes):
        return True
    near = [fit(like.architecture, shapes), *nearest_own(shapes)]
    return any(one.exact or adapt(one, shapes) is not None for one in near)


def parts_beside(view: View, found: Fit) -> list[Part]:
    """What lies beside a network and has weights, by the first part of a name that is its own."""
    weights = {**view.beside, **{view.prefix + k: view.state[k] for k in found.left_out}}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in weights.items():
        if tensor.ndim >= 2:
            parts.setdefault(_own(name, view.prefix), {})[name] = tensor
    return [Part(name, state) for name, state in parts.items()]


def _own(name: str, prefix: str) -> str:
    """The beginning of a name, up to where it leaves a prefix: ``net`` of ``net.0.weight``."""
    found: list[str] = []
    for part, other in zip(name.split("."), [*prefix.split("."), ""], strict=False):
        found.append(part)
        if part != other:
            break
    return ".".join(found)


def standing(name: str) -> int:
    """How a part stands by its name: 0 the usual one, 2 a second one or a loss, else 1."""
    if SECOND.search(name):
        return _SECOND
    return int(_MAIN.isdisjoint(name.split(".")))


def rivals(view: View, found: Fit) -> Iterator[tuple[Part, bool]]:
    """Parts that may be a file's main network, rather than the one found in it.

    Each with whether it comes before that by its name.
    """
    own, channels = standing(view.prefix.rstrip(".")), stem_channels(view.state)
    for part in parts_beside(view, found):
        stands = standing(part.name)
        if (stands < own == _SECOND and part.is_network()) or (
            stands <= own and part.reads_images(channels)
        ):
            yield part, stands < own


def networks_beside(view: View, found: Fit, views: Sequence[View]) -> list[str]:
    """Beginnings of other networks beside one, which ``--weights`` opens."""
    channels = stem_channels(view.state)
    parts = [part for part in parts_beside(view, found) if part.reads_images(channels)]
    return [name for part in parts if (name := part.known_as(views, found)) is not None]


def two_networks(what: str, view: View, found: Fit, unknown: Sequence[Part]) -> CnnlensError:
    """Say that a file's main network may be one that fits nothing known."""
    others = first_of([part.name for part in unknown], 4)
    name, arch = view.prefix.rstrip("."), found.architecture.name
    alone = f"--weights {name} opens {arch}" if name else f"--arch {arch} opens that alone"
    return CnnlensError(
        f"{what} holds {others}, of no known architecture, beside "
        f"{name or 'its top level'} ({arch}): which is the network is not said",
        f"--arch file.py:factory builds it as it was; {alone}",
    )


def stem_channels(state: Mapping[str, Tensor], none: int = _COLOURS) -> int:
    """Channels that the first convolution of a state dict takes; `none` where it has no such."""
    return next((t.shape[1] for t in state.values() if t.ndim == 4), none)

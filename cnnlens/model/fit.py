"""A state dict held against an architecture: how well it fits, and the network built of both."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from cnnlens.errors import CnnlensError
from cnnlens.model.architectures import (
    Architecture,
    Options,
    Shapes,
    blank,
    first_convolution,
    seeded,
)
from cnnlens.model.outline import Outline, ShapeMatcher, UnlikeError, outline

COUNTER = "num_batches_tracked"  # checkpoints older than PyTorch 0.4.1 lack these


@dataclass(frozen=True)
class Change:
    """A module of an architecture that a state dict has another one for.

    Attributes
    ----------
    path : str
        Where it is.
    make : callable
        Builds the other one.
    said : str
        For people; empty where another change says it.
    assumed : bool
        Whether something was assumed that no shape says.
    headless : bool
        Whether the network's outputs are features for it.
    stem : bool
        Whether images reach the network by another convolution.
    """

    path: str
    make: Callable[[], nn.Module]
    said: str = ""
    assumed: bool = False
    headless: bool = False
    stem: bool = False


@dataclass
class Fit:
    """A state dict held against an architecture.

    Attributes
    ----------
    architecture : Architecture
        What it was held against.
    options : dict
        Keyword arguments that made it fit best.
    channels : int or None
        Input channels of the first convolution, where they differ from the architecture's.
    fitting : int
        Tensors equal in name and shape.
    missing, unexpected : list of str
        Names the architecture has and the state dict lacks, and the other way round.
    differing : dict
        Name -> (shape in the state dict, shape in the architecture).
    changes : list of Change
        Parts that were built anew for it, see `adapt`.
    left_out : list of str
        Names in the state dict that are of nothing in the network.
    """

    architecture: Architecture
    options: Options = field(default_factory=dict)
    channels: int | None = None
    fitting: int = 0
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    differing: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def headless(self) -> bool:
        """Whether its classifier was cut off."""
        return any(change.headless for change in self.changes)

    @property
    def has_features(self) -> bool:
        """Whether it has no classifier: its own was cut off, or it was built without one."""
        return self.headless or self.options.get("num_classes") == 0

    @property
    def exact(self) -> bool:
        """Whether every tensor has its place."""
        return not (self.missing or self.unexpected or self.differing)

    @property
    def total(self) -> int:
        """Number of tensor names in either."""
        return self.fitting + len(self.missing) + len(self.unexpected) + len(self.differing)

    @property
    def closeness(self) -> float:
        """Share of all tensor names that fit; one that fits in name alone counts a quarter."""
        return (self.fitting + len(self.differing) / 4) / max(self.total, 1)

    @property
    def lacks_statistics(self) -> bool:
        """Whether nothing is missing but what norms have counted."""
        counted = all(k.endswith((".running_mean", ".running_var")) for k in self.missing)
        return bool(self.missing) and counted and not (self.unexpected or self.differing)

    @property
    def has_monais_shortcuts(self) -> bool:
        """Whether nothing differs but biases in its shortcuts, as MONAI's ResNets have them."""
        biases = all(k.endswith(".downsample.0.bias") for k in self.unexpected)
        return bool(self.unexpected) and biases and not (self.missing or self.differing)

    def hint(self) -> str:
        """Say the way out, where it is not exact."""
        if self.lacks_statistics:
            return "save net.state_dict(), in which norms keep their statistics; not its parameters"
        if self.has_monais_shortcuts:
            return (
                "biases in its shortcuts are MONAI's, whose first convolution has stride 1 unless "
                "told otherwise, which no tensor says: build it with --arch file.py:factory"
            )
        return "name the code that builds it with --arch file.py:factory"

    def describe(self, shown: int = 3) -> str:
        """Say how much fits and what does not, the first few of each kind."""
        text = [f"{self.fitting} of {self.total} tensors fit"]
        differing = [f"{k} {have} instead of {want}" for k, (have, want) in self.differing.items()]
        for kind, found in (
            ("of another shape", differing),
            ("missing", self.missing),
            ("unexpected", self.unexpected),
        ):
            if found:
                more = ", …" if len(found) > shown else ""
                text.append(f"{len(found)} {kind} ({', '.join(found[:shown])}{more})")
        return "; ".join(text)


def fit(architecture: Architecture, shapes: Shapes) -> Fit:
    """Adapt an architecture to the shapes of a state dict, as far as it can be adapted.

    The number of classes follows the state dict where `architecture` knows how, and the number of
    input channels where only the first convolution differs in it.
    """
    options = architecture.options(shapes)
    return max((fit_with(architecture, o, shapes) for o in options), key=lambda f: f.closeness)


def quick_fit(architecture: Architecture, shapes: Shapes) -> tuple[Fit | None, int, float]:
    """Fit, but give up as soon as the layers differ.

    Returns
    -------
    (Fit or None, int, float)
        An exact fit or None, how many layers were alike before giving up, and how close it is where
        that was not given up.
    """
    alike, closeness = 0, 0.0
    for options in architecture.options(shapes):
        watch = ShapeMatcher(shapes, options.get("num_classes", architecture.outputs))
        try:
            seen = outline(architecture, options, watch)
            found = fit_with(architecture, options, shapes, seen)
        except UnlikeError:
            return None, watch.matched, closeness
        except Exception:  # a network that cannot be built without memory: nothing can be said
            return None, alike, closeness
        if found.exact:
            return found, watch.matched, 1.0
        alike, closeness = max(alike, watch.matched), max(closeness, found.closeness)
        if found.unexpected or found.differing:
            break  # other options take parts away (the head), which would not help
    return None, alike, closeness


def fit_with(
    architecture: Architecture, options: Options, shapes: Shapes, seen: Outline | None = None
) -> Fit:
    """Hold a state dict against an architecture that is built with these options."""
    seen = outline(architecture, options) if seen is None else seen
    found = _compare(architecture, options, shapes, seen)
    classes = _classes(found, options.get("num_classes", architecture.outputs))
    if classes is not None:
        options = {**options, "num_classes": classes}
        seen = outline(architecture, options)
        found = _compare(architecture, options, shapes, seen)
    if seen.stem in found.differing:
        have, want = found.differing[seen.stem]
        if len(have) == len(want) and have[:1] + have[2:] == want[:1] + want[2:]:
            del found.differing[seen.stem]
            found.fitting += 1
            found.channels = have[1]
    return found


def _compare(architecture: Architecture, options: Options, have: Shapes, seen: Outline) -> Fit:
    want = seen.tensors
    both = [k for k in want if k in have]
    differing = {k: (have[k], want[k]) for k in both if have[k] != want[k]}
    return Fit(
        architecture,
        options,
        fitting=len(both) - len(differing),
        missing=[k for k in want if k not in have and not k.endswith(COUNTER)],
        unexpected=[k for k in have if k not in want],
        differing=differing,
    )


def _classes(found: Fit, outputs: int | None) -> int | None:
    """Read the number of classes off tensors that differ in nothing but their outputs."""
    numbers = {
        have[0]
        for have, want in found.differing.values()
        if have and want and want[0] == outputs and have[1:] == want[1:]
    }
    return numbers.pop() if len(numbers) == 1 else None


def build(found: Fit, state: dict[str, torch.Tensor]) -> nn.Module:
    """Build the architecture as it was fitted and give it the state dict's weights."""
    with seeded(), blank() if found.architecture.lazy else nullcontext():
        net = found.architecture.make(**found.options)
    if found.channels is not None:
        replace_input(net, found.channels)
    for change in found.changes:
        replace_module(net, change.path, change.make())
    try:
        net.load_state_dict(_complete(state, net.state_dict()))
    except (RuntimeError, NotImplementedError) as error:  # names and shapes fit, as they were held
        reason = " ".join(str(error).split()).partition("exception occurred : ")[2] or str(error)
        raise CnnlensError(
            f"weights in the file cannot be copied into {found.architecture.name}: {reason[:200]}",
            "save them as plain dense tensors: {k: v.cpu() for k, v in net.state_dict().items()}",
        ) from error
    return net


def _complete(state: dict[str, torch.Tensor], want: Any) -> Any:
    """Put a state dict into the form a network expects, in its order.

    Missing counters of batches are zero, and the record of versions is the network's own:
    torchvision's MnasNet refuses a state dict without one.
    """
    full = type(want)((k, state[k] if k in state else torch.zeros_like(v)) for k, v in want.items())
    full._metadata = getattr(want, "_metadata", {})
    return full


def replace_module(net: nn.Module, path: str, new: nn.Module) -> None:
    """Put a module in the place of another."""
    parent, _, name = path.rpartition(".")
    setattr(net.get_submodule(parent), name, new)


def replace_input(net: nn.Module, channels: int) -> None:
    """Give the first convolution another number of input channels."""
    first = first_convolution(net)
    assert first is not None  # it was found when the state dict was fitted
    old = first[1]
    weight = old.weight
    old.weight = nn.Parameter(weight.new_empty((len(weight), channels, *weight.shape[2:])))
    old.in_channels = channels * old.groups

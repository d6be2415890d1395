"""How well a state dict fits an architecture, and the architecture adapted to it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from cnnlens.model.architecture import Architecture, Options, Shapes
from cnnlens.model.skeleton import first_convolution, seeded, shapes_of, weightless

_COUNTER = ".num_batches_tracked"  # checkpoints older than PyTorch 0.4.1 lack these


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
    """

    architecture: Architecture
    options: Options = field(default_factory=dict)
    channels: int | None = None
    fitting: int = 0
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    differing: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)

    @property
    def exact(self) -> bool:
        """Whether every tensor has its place."""
        return not (self.missing or self.unexpected or self.differing)

    @property
    def total(self) -> int:
        """Number of tensor names in either."""
        return self.fitting + len(self.missing) + len(self.unexpected) + len(self.differing)

    def describe(self, shown: int = 3) -> str:
        """Name what differs, the first few of each kind."""
        parts = [
            f"{name} {have} instead of {want}"
            for name, (have, want) in list(self.differing.items())[:shown]
        ]
        if len(self.differing) > shown:
            parts.append(f"… {len(self.differing)} shapes differ")
        text = [f"differs: {', '.join(parts)}"] if parts else []
        for kind, found in (("missing", self.missing), ("unexpected", self.unexpected)):
            if found:
                more = ", …" if len(found) > shown else ""
                text.append(f"{len(found)} {kind} ({', '.join(found[:shown])}{more})")
        return "; ".join(text)


def fit(architecture: Architecture, shapes: Shapes) -> Fit:
    """Adapt an architecture to the shapes of a state dict, as far as it can be adapted.

    The number of classes follows the state dict where `architecture` knows how, and the number of
    input channels where only the first convolution differs in it.
    """
    return max(
        (_fit(architecture, o, shapes) for o in architecture.options(shapes)), key=_closeness
    )


def closeness(found: Fit) -> float:
    """Share of all tensor names that fit, for finding the nearest architecture."""
    return found.fitting / max(found.total, 1)


_closeness = closeness


def _fit(architecture: Architecture, options: Options, shapes: Shapes) -> Fit:
    found, net = _compare(architecture, options, shapes)
    classes = _classes(found, architecture.outputs)
    if classes is not None:
        found, net = _compare(architecture, {**options, "num_classes": classes}, shapes)
    first = first_convolution(net)
    if first is not None and set(found.differing) == {f"{first[0]}.weight"}:
        have, want = found.differing[f"{first[0]}.weight"]
        if have[:1] + have[2:] == want[:1] + want[2:] and len(have) > 1:
            found.differing.clear()
            found.fitting += 1
            found.channels = have[1]
    return found


def _compare(architecture: Architecture, options: Options, have: Shapes) -> tuple[Fit, nn.Module]:
    net = _built(architecture, options)
    want = shapes_of(net.state_dict())
    both = [k for k in want if k in have]
    differing = {k: (have[k], want[k]) for k in both if have[k] != want[k]}
    found = Fit(
        architecture,
        options,
        fitting=len(both) - len(differing),
        missing=[k for k in want if k not in have and not k.endswith(_COUNTER)],
        unexpected=[k for k in have if k not in want],
        differing=differing,
    )
    return found, net


def _built(architecture: Architecture, options: Options) -> nn.Module:
    if not architecture.lazy:
        with seeded():
            return architecture.make(**options)
    with weightless():
        return architecture.make(**options)


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
    net = _built(found.architecture, found.options)
    if found.channels is not None:
        _replace_input(net, found.channels)
    want = net.state_dict()
    full = {k: _like(state.get(k), v) for k, v in want.items()}
    # with the net's own record of versions: some torchvision networks refuse a dict without one
    full_state = type(want)(full)
    full_state._metadata = getattr(want, "_metadata", {})  # type: ignore[attr-defined]
    net.load_state_dict(full_state, assign=found.architecture.lazy)
    return net


def _like(tensor: torch.Tensor | None, want: torch.Tensor) -> torch.Tensor:
    if tensor is None:  # only counters of batches may be missing
        return torch.zeros(want.shape, dtype=want.dtype)
    # half-precision checkpoints run in the precision the architecture is written for
    return tensor.detach().to(want.dtype).contiguous()


def _replace_input(net: nn.Module, channels: int) -> None:
    """Give the first convolution another number of input channels."""
    name, old = first_convolution(net)  # type: ignore[misc]
    parent = net.get_submodule(name.rpartition(".")[0])
    new = type(old)(
        channels,
        old.out_channels,
        old.kernel_size,
        stride=old.stride,
        padding=old.padding,
        dilation=old.dilation,
        bias=old.bias is not None,
        padding_mode=old.padding_mode,
    )
    setattr(parent, name.rpartition(".")[2], new)

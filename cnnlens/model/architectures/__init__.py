"""A network that can be built by name: how, how it is fed, and its shapes without memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from cnnlens.model.preprocess import Preprocess

Shapes = Mapping[str, tuple[int, ...]]
Options = dict[str, Any]
See = Callable[[tuple[int, ...]], None]


def _no_options(_: Shapes) -> Iterable[Options]:
    return ({},)


def _nothing(*_: Any) -> None:
    return None


@dataclass(frozen=True)
class Architecture:
    """A network that can be built by name.

    Attributes
    ----------
    name : str
        Its canonical spec, which opens it again: ``torchvision:resnet18``.
    make : callable
        Builds it with random weights; keyword arguments are the registry's own.
    outputs : int or None
        Number of classes `make` gives it unless told ``num_classes``; None: it cannot be told.
    options : callable
        Shapes of a state dict -> the keyword arguments worth trying to fit it.
    preprocess : callable
        The built network -> how to feed it, or None where nobody knows.
    class_names : callable
        Number of outputs -> their names, or None.
    finish : callable
        Sets what a state dict does not say; returns notes for the user.
    lazy : bool
        Whether it can be built without memory and then be given its weights.
    builder : object
        The function that builds it, where its registry can be given another under the same name.
    source : str
        What else decides how it computes (a factory's code), for the fingerprint.
    source_before : str or None
        As earlier fingerprints had it, where another counts now and both say the same.
    """

    name: str
    make: Callable[..., nn.Module]
    outputs: int | None = None
    options: Callable[[Shapes], Iterable[Options]] = _no_options
    preprocess: Callable[[nn.Module], Preprocess | None] = _nothing
    class_names: Callable[[int], list[str] | None] = _nothing
    finish: Callable[[nn.Module], list[str]] = field(default=lambda net: [])
    lazy: bool = False
    builder: object = None
    source: str = ""
    source_before: str | None = None


@dataclass
class Opened:
    """A network and what is known about it.

    Attributes
    ----------
    net : torch.nn.Module
        On the CPU.
    arch : str
        Its architecture's name.
    preprocess : Preprocess or None
        None where nobody knows.
    classes : list of str or None
        Names of its outputs.
    classes_source : str
        Who says so; what begins with "assumed", nobody.
    source : str
        What else decides how it computes, for the fingerprint.
    source_before : str or None
        What stood in its place before: see `Architecture`.
    batch : int or None
        The only batch size it accepts.
    fixed_size : bool
        Whether it takes pictures of the preprocessing's size only.
    notes : sequence of str
        For the user to read.
    surgery : sequence of dict
        Plans of what was done to the architecture, see `surgery`.
    interpretable : sequence of str
        Modules that fine-tuning was to make mean something.
    stripped, assumed : sequence of str
        What was left out of the file or taken off its names, and what nobody has said; each is
        told in the notes too.
    headless : bool
        Whether its classifier was cut off: its outputs are features.
    epoch : float or None
        Of its training, where the file says it.
    """

    net: nn.Module
    arch: str
    preprocess: Preprocess | None = None
    classes: list[str] | None = None
    source: str = ""
    source_before: str | None = None
    batch: int | None = None
    fixed_size: bool = False
    notes: Sequence[str] = ()
    surgery: Sequence[dict[str, Any]] = ()
    classes_source: str = ""
    stripped: Sequence[str] = ()
    headless: bool = False
    assumed: Sequence[str] = ()
    epoch: float | None = None
    interpretable: Sequence[str] = ()

    def decides(self, text: str) -> None:
        """Let what a state dict does not say count in the fingerprint."""
        self.source += text
        if self.source_before is not None:
            self.source_before += text


def described(known: Architecture, net: nn.Module, notes: Sequence[str] = ()) -> Opened:
    """Add what an architecture knows about a network built from it."""
    outputs = count_outputs(net)
    headless = is_headless(net)
    classes = known.class_names(outputs) if outputs and not headless else None
    opened = Opened(
        net,
        known.name,
        known.preprocess(net),
        classes,
        known.source,
        known.source_before,
        # vision transformers have one position embedding per patch
        fixed_size=isinstance(getattr(net, "image_size", None), int),
        notes=[*notes, FEATURES] if headless else notes,
        classes_source=_whose(known, classes),
        headless=headless,
    )
    if getattr(net, "transform_input", False):
        # GoogLeNet and Inception: a switch that changes the result and is in no state dict
        opened.decides("transform_input")
    return opened


FEATURES = "it has no classifier: its outputs are features, not classes"


def is_headless(net: nn.Module) -> bool:
    """Whether a network says itself that it was built without classes, as timm's do."""
    head = getattr(net, "get_classifier", None)
    return getattr(net, "num_classes", None) == 0 and callable(head) and _is_none(head())


def _is_none(head: Any) -> bool:
    return head is None or isinstance(head, nn.Identity)


def _whose(known: Architecture, classes: Sequence[str] | None) -> str:
    """Who says a network's class names, where that is no more than the number of its outputs."""
    if not classes:
        return ""
    thousand = len(classes) == 1000
    return "assumed: ImageNet's" if thousand else f"assumed: those of {known.name}'s own weights"


def count_outputs(net: nn.Module) -> int | None:
    """Number of outputs of the last linear layer or convolution that was registered.

    Of an architecture that is known these are its classes. Of any other network, that may register
    others behind its head: see `classes.misfit`.
    """
    return next(reversed(layer_outputs(net)), None)


def layer_outputs(net: nn.Module) -> list[int]:
    """How many outputs the linear layers and convolutions of a network have, as registered."""
    return [
        module.out_features if isinstance(module, nn.Linear) else module.out_channels
        for module in net.modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]


def built_for(net: nn.Module) -> tuple[int, int] | None:
    """Height and width of the input that a network was built for, where it says so.

    Vision transformers have one position embedding per patch, and say for which pictures.
    """
    config, patches = getattr(net, "config", None), getattr(net, "patch_embed", None)
    for holder, name in ((net, "image_size"), (patches, "img_size"), (config, "image_size")):
        size = getattr(holder, name, None)
        if isinstance(size, int) and size > 0:
            return size, size
        if (
            isinstance(size, tuple | list)
            and len(size) == 2
            and all(isinstance(s, int) for s in size)
        ):
            return size[0], size[1]
    return None


Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
_ALLOCATE = {torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn}
_FILL = {
    torch.Tensor.uniform_, torch.Tensor.normal_, torch.Tensor.erfinv_, torch.Tensor.fill_,
    torch.Tensor.zero_, torch.Tensor.mul_, torch.Tensor.add_, torch.Tensor.clamp_,
}  # fmt: skip


# these hand a mode themselves, and not what they call: the draws within would go unseen
_INITIALIZERS = {nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_}


class _Blank(TorchFunctionMode):
    """Leave out the drawing of random weights, for networks about to be given others.

    What is drawn again until it lies within bounds (newer PyTorch's ``trunc_normal_``) would be
    drawn for ever, where the memory holds anything else: NaN lies outside no bounds.
    """

    _DRAWS: ClassVar = {torch.Tensor.uniform_, torch.Tensor.normal_}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in self._DRAWS:
            args[0].detach().fill_(math.nan)
            return args[0]
        if func is torch.Tensor.erfinv_ or func in _INITIALIZERS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


@contextmanager
def blank() -> Iterator[None]:
    """Within this block, new layers have memory for their weights, with no meaning in it."""
    with _Blank():
        yield


class _Weightless(TorchFunctionMode):
    """Put what layers allocate on the meta device, and only that.

    ``torch.device("meta")`` would also catch the small tensors from which some builders compute
    widths or index tables (RegNet, Swin), which then cannot be read.
    """

    def __init__(self, see: See | None) -> None:
        super().__init__()
        self.see = see

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _FILL or func in _INITIALIZERS:
            filled = args[0] if args else kwargs["tensor"]
            if filled.is_meta:  # without numbers there is nothing to fill in
                return filled
        if func in _ALLOCATE and kwargs.get("device") is None:
            kwargs.pop("generator", None)
            # nothing is filled in here, either: ones and zeros would be, in Python
            result = torch.empty(*args, **{**kwargs, "device": "meta"})
        else:
            result = func(*args, **kwargs)
        # the weights of layers
        if self.see is not None and func is torch.empty and result.is_floating_point():
            self.see(tuple(result.shape))
        return result


@contextmanager
def weightless(see: See | None = None) -> Iterator[None]:
    """Within this block, new layers hold shapes but no numbers; each weight's shape is shown."""
    with _Weightless(see):
        yield


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Within this block, random weights come out the same every time; the global state returns."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def shapes_of(state: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a state dict's tensors."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def first_convolution(net: nn.Module) -> tuple[str, Convolution] | None:
    """Name and module of the first convolution registered in a network, if it has one."""
    for name, module in net.named_modules():
        if isinstance(module, Convolution):
            return name, module
    return None

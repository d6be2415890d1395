"""Surgery on an opened network: masks behind a layer, another convolution above it, a new head.

A module is replaced by a sequence that begins with it (``inner``), so that the network's own code
runs as before: ``features.11`` becomes ``features.11.inner``, then ``features.11.mask``, and
with another convolution ``features.11.conv, features.11.relu, features.11.conv_mask``. The plan of
an operation is plain data, which a checkpoint keeps to repeat it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cnnlens.errors import UsageError
from cnnlens.model.fit import replace_module
from cnnlens.model.mask import Mask
from cnnlens.model.model import Model
from cnnlens.model.outputs import choose, named_tensors
from cnnlens.model.refused import explained
from cnnlens.model.trace import as_input, hooked

INNER = "inner"


@dataclass(frozen=True)
class Plan:
    """What is done to a network.

    Attributes
    ----------
    at : str
        Module whose rectified maps are meant; empty for none.
    units : int
        Its maps.
    insert : bool
        Whether another convolution comes above it.
    mask : bool
        Whether the maps are masked.
    position, beta, learn_beta
        Of the masks.
    head : str
        Module that gives the logits, where it is replaced; else empty.
    classes : int
        Outputs of the new head.
    """

    at: str = ""
    units: int = 0
    insert: bool = False
    mask: bool = False
    position: str = "argmax"
    beta: float = 4.0
    learn_beta: bool = False
    head: str = ""
    classes: int = 0

    @property
    def changes(self) -> bool:
        """Whether anything is put in; where not, a method listens to the maps as they are."""
        return bool(self.mask or self.insert or self.head)

    @property
    def maps(self) -> list[str]:
        """Modules whose own output is what the method works on, in order."""
        if not (self.mask or self.insert):
            return [self.at] if self.at else []
        if not self.mask:
            return [f"{self.at}.{INNER}", f"{self.at}.relu"]
        return [f"{self.at}.mask"] + ([f"{self.at}.conv_mask"] if self.insert else [])

    @property
    def fresh(self) -> list[str]:
        """Modules that begin with new weights."""
        found = [f"{self.at}.conv"] if self.insert else []
        if self.mask:
            found += self.maps
        return found + ([self.head] if self.head else [])

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers and strings, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plan: Mapping[str, Any]) -> Plan:
        """Build from :meth:`as_dict`'s result; unknown keys are ignored."""
        return cls(**{k: v for k, v in plan.items() if k in cls.__dataclass_fields__})


def operate(net: nn.Module, plan: Plan, seed: int = 0, alone: bool = False) -> nn.Module:
    """Carry out a plan in place; return the network.

    Parameters
    ----------
    net : torch.nn.Module
        As its architecture builds it.
    plan : Plan
        What is done.
    seed : int
        Of the new weights: N(0, 0.01), biases 0.
    alone : bool
        Whether a module of several names is replaced under the plan's own alone, as earlier
        versions did: the network's code may call it by any of them.
    """
    generator = torch.Generator().manual_seed(seed)
    replace = replace_module if alone else _replace_everywhere
    if plan.head:
        replace(net, plan.head, _new_head(net.get_submodule(plan.head), plan.classes, generator))
    if plan.insert or plan.mask:
        replace(net, plan.at, _sequence(net.get_submodule(plan.at), plan, generator))
    return net


def repeated(model: Model) -> list[str]:
    """Say of what was put behind a module that the network calls several times (as
    `cnnlens.model.rectified` refuses it now) that it runs as often.
    """
    paths = {plan["at"] for plan in model.surgery if plan["insert"] or plan["mask"]}
    calls = Counter[str]()
    hooks = [
        (module, lambda *_, path=path: calls.update([path]))
        for path, module in model.net.named_modules()
        if path in paths
    ]
    if not hooks:
        return []
    with suppress(Exception), hooked(hooks), torch.no_grad():  # what does not run is said elsewhere
        model.net(as_input(model.net, model.example()))
    return [
        f"what fine-tuning put behind {path} runs {times} times in a pass, as that module does: "
        "train it anew, with -l and the block around it"
        for path, times in calls.items()
        if times > 1
    ]


def check_run(model: Model, plans: Sequence[Plan]) -> None:
    """See that a network's own code runs what was put in.

    Raises
    ------
    UsageError
        When it does not: it keeps the module that was replaced where no module's name leads.
    """
    places = {path: path if path == plan.head else plan.at for plan in plans for path in plan.fresh}
    ran = set[str]()
    hooks = [
        (model.net.get_submodule(path), lambda *_, path=path: ran.add(path)) for path in places
    ]
    with hooked(hooks), torch.no_grad():
        model.net(as_input(model.net, model.example()))
    for path, at in places.items():
        if path not in ran:
            raise UsageError(
                f"the network never runs what was put at {at}: its code keeps that module in a "
                "list or a function, too",
                "let its code call modules by their names, or keep them in an nn.ModuleList",
            )


def head_of(model: Model) -> tuple[str, int]:
    """Return the module that gives the logits, and how many it gives.

    Raises
    ------
    UsageError
        When no linear layer or convolution does.
    """
    called: list[str] = []
    hooks = [
        (module, lambda *_, path=path: called.append(path))
        for path, module in model.net.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d))
    ]
    x = as_input(model.net, model.example())
    with explained(model.net, x), hooked(hooks), torch.no_grad():
        logits = model.net(x)
    shapes = {name: tuple(one.shape) for name, one in named_tensors(logits).items()}
    choose(shapes, len(x), model.head)  # an output that is not there is named
    if len(shapes) > 1:
        raise UsageError(
            f"{model.spec} returns several outputs ({', '.join(shapes)}), and one is trained",
            "wrap it: --arch file.py:factory of a module that returns the one alone",
        )
    outputs = logits.shape[1] if isinstance(logits, Tensor) and logits.ndim == 2 else -1
    if called and _outputs(model.net.get_submodule(called[-1])) == outputs:
        return called[-1], outputs
    raise UsageError(
        f"{model.spec} gives no class scores that could be trained",
        "a network that ends in a linear layer or a convolution per class is needed",
    )


def _outputs(module: nn.Module) -> int:
    return int(module.out_channels if isinstance(module, nn.Conv2d) else module.out_features)  # type: ignore[arg-type]


def _replace_everywhere(net: nn.Module, path: str, new: nn.Module) -> None:
    for module, name in places_of(net, path):
        setattr(module, name, new)


def places_of(net: nn.Module, path: str) -> list[tuple[nn.Module, str]]:
    """Modules that have the one at a path as their own, and what they call it."""
    it = net.get_submodule(path)
    return [(m, name) for m in net.modules() for name, one in m._modules.items() if one is it]


def _normal(module: nn.Conv2d | nn.Linear, generator: torch.Generator) -> None:
    nn.init.normal_(module.weight, 0, 0.01, generator=generator)
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def _sequence(inner: nn.Module, plan: Plan, generator: torch.Generator) -> nn.Module:
    def mask() -> Mask:
        return Mask(plan.units, plan.position, plan.beta, plan.learn_beta)

    layers: dict[str, nn.Module] = {INNER: inner}
    if plan.mask:
        layers["mask"] = mask()
    if plan.insert:
        conv = nn.Conv2d(plan.units, plan.units, 3, padding=1)
        _normal(conv, generator)
        layers |= {"conv": conv, "relu": nn.ReLU()}
        if plan.mask:
            layers["conv_mask"] = mask()
    return nn.Sequential(OrderedDict(layers))


def _new_head(old: nn.Module, classes: int, generator: torch.Generator) -> nn.Module:
    new: nn.Conv2d | nn.Linear
    if isinstance(old, nn.Conv2d):
        kernel, stride = old.kernel_size, old.stride
        new = nn.Conv2d(old.in_channels, classes, kernel, stride, old.padding)  # type: ignore[arg-type]
    else:
        assert isinstance(old, nn.Linear)
        new = nn.Linear(old.in_features, classes)
    _normal(new, generator)
    return new


_IDENTITY = 0.3  # share of the identity in an inserted convolution: no unit starts dead
_NOISE = 0.5  # variance of the rest, times its inputs: N(0, 0.01) at 512 maps, as in the paper
_USUAL = 0.5  # mean of what a head is given, up to which the usual rate is right


@torch.no_grad()
def start_inserted(net: nn.Module, conv: str, head: str, x: Tensor, seed: int) -> float:
    """Start an inserted convolution at the scale of the maps; return the factor on its rate.

    It passes on a share of each map, so that no unit starts dead, and mixes maps as N(0, 0.01)
    does at 512 of them. Adam moves a unit by the rate times the sum of its inputs: where maps are
    strong (SqueezeNet's have a mean of 13) a few steps kill it, and every logit behind a rectifier
    with it. Weights and rate are therefore divided by that mean.

    Parameters
    ----------
    net : torch.nn.Module
        In evaluation mode.
    conv, head : str
        The convolution, as wide as its input, and the module that gives the logits.
    x : torch.Tensor
        (N, …) some of the network's inputs.
    seed : int
        Of the weights.
    """
    layer = net.get_submodule(conv)
    assert isinstance(layer, nn.Conv2d) and layer.bias is not None
    nn.init.dirac_(layer.weight)
    nn.init.zeros_(layer.bias)
    mean = _mean_input(net, head, x)  # of the maps as they are, where the head takes them
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(layer.weight.shape, generator=generator)
    noise *= (_NOISE / layer.weight[0].numel()) ** 0.5
    start = (_IDENTITY * layer.weight + noise.to(layer.weight.device)) / max(1.0, mean)
    layer.weight.copy_(start)
    return min(1.0, _USUAL / max(mean, 1e-12))


def _mean_input(net: nn.Module, path: str, x: Tensor) -> float:
    """Mean size of what a module is given."""
    found: list[float] = []

    def keep(module: nn.Module, args: Any) -> None:
        found.append(float(args[0].abs().mean()))

    with hooked((), [(net.get_submodule(path), keep)]):
        net(x)
    return found[-1]

"""The head of a network, where it lies beside its body in a state dict, under names of its own.

mmpretrain has it below ``head.fc``, pretrainedmodels as ``last_linear`` (of VGGs ``linear0``,
``linear1`` and that), fastai as the second part of a sequence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from torch import Tensor, nn

from cnnlens.model.adapt import adapt
from cnnlens.model.architectures import shapes_of
from cnnlens.model.entries import View
from cnnlens.model.fit import COUNTER, Fit, fit
from cnnlens.model.outline import skeleton

# heads of self-supervised training, whose outputs are no classes
_PROJECTION = re.compile(r"mlp|proj|predict|rot|contrast")
# what is no layer between a body and its head, by its name
APART = re.compile(
    r"loss|criterion|metric|acc|confmat|auroc|f1|precision|recall|queue|weights$|decoder|aux|"
    r"teacher|ema|percept|(norm|preproc)\w*\.(?!running)(\w+_)?(mean|std|sigma)$|"
    r"(^|[._])(pixel|image|img|input)_(mean|std)$"
)
Names = dict[str, str]  # beginnings of names in the file: what they are in the network


def with_head(view: View, found: Fit) -> tuple[View, Fit]:
    """Give a headless network the head that lies beside it and takes its features.

    Parameters
    ----------
    view : View
        Its tensors, and those beside it.
    found : Fit
        As they fit.

    Returns
    -------
    (View, Fit)
        With the head; the same where there is none, or it cannot be told what stands between.
    """
    if not found.has_features:
        return view, found
    beside = {**view.beside, **{view.prefix + k: view.state[k] for k in found.left_out}}
    for names in (*_row_beside(beside, view, found), *_next_in_sequence(beside, view, found)):
        of = {k: start for k in beside for start in names if k.startswith(start)}
        head = {names[start] + k.removeprefix(start): beside[k] for k, start in of.items()}
        own = {k: v for k, v in view.state.items() if view.prefix + k not in of}
        again = fit(found.architecture, shapes_of(own | head))
        again = again if again.exact else adapt(again, shapes_of(own | head)) or again
        if again.exact and not again.has_features:
            said = [f"{start[:-1]} taken for {at[:-1]}" for start, at in names.items()]
            rest = {k: v for k, v in view.beside.items() if k not in of}
            lines = (*view.stripped, *said)
            return replace(view, state=own | head, beside=rest, stripped=lines), again
    return view, found


_CAFFE = (
    "last_linear is a name of pretrainedmodels, which has two networks of these tensors: "
    "resnet101, torchvision's, is assumed; cafferesnet101 strides in its 1×1 convolutions, pools "
    "rounding up and reads BGR bytes: --arch file.py:factory builds it"
)


# of the same tensors: timm's pool or blur before they stride, Places365's does not pool
_TWINS = {
    "resnet50": ("timm:resnetaa50", "timm:resnetblur50"),
    "resnet18": ("timm:resnetblur18", "zoo:wideresnet18"),
}


def unsure(view: View, found: Fit, called: str = "") -> list[str]:
    """Say what else the tensors may be of, by the name of a head, and by what the file and what is
    in it are `called`: what no shape tells apart.
    """
    library, _, name = found.architecture.name.partition(":")
    named = any(line.startswith("last_linear taken for") for line in view.stripped)
    said = [_CAFFE] if named and name == "resnet101" else []
    for twin in _TWINS.get(name, ()) if library == "torchvision" else ():
        if twin.partition(":")[2] in called.lower():
            said.append(
                f"{name}, torchvision's, is assumed; {twin}, which is named, has the same "
                f"tensors and strides elsewhere: --arch {twin} builds it"
            )
    return said


def _row_beside(beside: Mapping[str, Tensor], view: View, found: Fit) -> Iterator[Names]:
    """The layers beside a network that are, one by one, like those that it lacks at its end.

    Not where there is more beside that may stand between them: a norm, a scale, a convolution.
    """
    wide = [
        k for k, v in beside.items()
        if k.endswith(".weight") and (v.ndim == 2 or (v.ndim > 2 and not APART.search(k)))
    ]  # fmt: skip
    lacking = _lacking(view, found)
    if not lacking or len(wide) != len(lacking) or any(map(_PROJECTION.search, wide)):
        return
    names = {k.removesuffix("weight"): f"{at}." for k, at in zip(wide, lacking, strict=True)}
    if any(
        tensor.is_floating_point() and not name.startswith((*names,)) and not APART.search(name)
        for name, tensor in beside.items()
    ):
        return
    pairs = zip(names, lacking.values(), strict=True)
    if all(_is_like(beside, start, layer, n == len(names)) for n, (start, layer)
           in enumerate(pairs, 1)):  # fmt: skip
        yield names


def _is_like(beside: Mapping[str, Tensor], start: str, layer: nn.Module, last: bool) -> bool:
    """Whether a layer beside has a bias and the shape of another; the last has its own outputs."""
    have, want = beside[f"{start}weight"].shape, layer.get_parameter("weight").shape
    return f"{start}bias" in beside and have[1:] == want[1:] and (last or have == want)


def _lacking(view: View, found: Fit) -> dict[str, nn.Module]:
    """The layers of the whole architecture that a network lacks; empty where they are no row of
    layers on vectors.
    """
    options = {k: v for k, v in found.options.items() if (k, v) != ("num_classes", 0)}
    net = skeleton(found.architecture, options)
    names = [k for k in net.state_dict() if k not in view.state and not k.endswith(COUNTER)]
    layers = {path: net.get_submodule(path) for path in (k.rpartition(".")[0] for k in names)}
    kinds = (nn.Linear, nn.Conv2d)
    plain = [m for m in layers.values() if isinstance(m, kinds) and m.weight.shape[2:] in _POINTS]
    return layers if len(plain) == len(layers) else {}


_POINTS = ((), (1, 1))  # kernels of layers that are applied to one position at a time


def _next_in_sequence(beside: Mapping[str, Tensor], view: View, found: Fit) -> Iterator[Names]:
    """What follows a body in a sequence of two, as fastai has them."""
    cut = next((change.path for change in found.changes if change.headless), None)
    parts = view.prefix.split(".")
    for place in [n for n, part in enumerate(parts) if part == "0"] if cut else ():
        start = ".".join([*parts[:place], "1."])
        if any(k.startswith(start) for k in beside):
            yield {start: f"{cut}."}

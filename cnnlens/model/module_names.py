"""What a file says of modules that have no tensors: their names, which ``torch.save`` keeps.

``net.state_dict()`` lists all modules of a network beside its tensors: poolings and rectifiers,
too. Who renames tensors (safetensors, a dict of one's own) loses the list, so that it may be
missing. Networks of the same tensors may be told apart by it. Versions of a library name a few
modules otherwise, so that it is asked for the likelier network, and refuses none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from cnnlens.model.adapt import adapt
from cnnlens.model.architectures import shapes_of, timm
from cnnlens.model.beside import APART
from cnnlens.model.entries import View, plain
from cnnlens.model.fit import Fit, fit, replace_module
from cnnlens.model.outline import skeleton

# of the tensors of torchvision's; the second pool or blur before they stride
_TWINS = {
    "resnet18": ("resnet18", "resnetblur18"),
    "resnet50": ("resnet50", "resnetaa50", "resnetblur50"),
}
# whose tensors many programs have, and whose modules were never called otherwise
_RESNETS = ("torchvision:resnet", "torchvision:resnext", "torchvision:wide_resnet")


def with_modules(view: View, listed: Iterable[str]) -> View:
    """Tell a view its network's modules; none where its tensors are called otherwise than these."""
    bare = [plain(f"{name}.") for name in listed]
    own = {n.removeprefix(view.prefix)[:-1] for n in bare if n.startswith(view.prefix)} - {""}
    parents = {name.rpartition(".")[0] for name in view.state} - {""}
    return replace(view, modules=frozenset(own) if parents <= own else frozenset())


def nearest(view: View, fits: Sequence[Fit]) -> list[Fit]:
    """Those of several whose modules are called most like the file's; all where it lists none."""
    if not view.modules or len(fits) == 1:
        return list(fits)
    differ = [len(differing(view, found)) for found in fits]
    return [found for found, number in zip(fits, differ, strict=True) if number == min(differ)]


def told_apart(view: View, found: Fit) -> Fit:
    """The network, or its twin that blurs, where the file's modules are called as that one's."""
    if not view.modules or not found.architecture.name.startswith(_RESNETS):
        return found
    near = nearest(view, [found, *_twins(view, found)])
    return near[0] if "blur" in near[0].architecture.name else found


def unsure(view: View, found: Fit, called: str | None = None) -> list[str]:
    """Say of one of torchvision's ResNets that its file's modules are called otherwise; of timm's,
    where the file itself does not say which it is `called`.
    """
    library, _, name = found.architecture.name.partition(":")
    stem = any(change.stem for change in found.changes)  # which is assumed anyway
    if not view.modules or not f"{library}:{name}".startswith(_RESNETS) or stem:
        return []
    differ = differing(view, found)
    near = [f.architecture.name for f in nearest(view, [found, *_twins(view, found)])]
    if not differ or near == [f"timm:{name}"]:
        return []
    if near[0].startswith("timm:"):
        return [] if called == name else [_TIMMS.format(name=name, twin=near[-1])]
    lacking = [f"no {path}" for path in differ if path not in view.modules]
    listed = [path for path in differ if path in view.modules]
    words = _OTHERS if lacking else _MORE
    return [words.format(name=name, differ=", ".join([*listed[:2], *lacking[:2]]))]


_TIMMS = (
    "{name}, torchvision's, is assumed; its modules are called as timm's, and {twin}, of the same "
    "tensors, strides elsewhere: --arch {twin} builds it"
)
_OTHERS = (
    "{name}, torchvision's, is assumed; the modules of the file are called otherwise ({differ}), "
    "so that another program wrote it, whose strides and poolings no tensor says: --arch "
    "file.py:factory builds it"
)
_MORE = (
    "{name}, torchvision's, is assumed; the file has all of its modules, and others without "
    "tensors ({differ}), which are left out: --arch file.py:factory builds them"
)


def _twins(view: View, found: Fit) -> Iterator[Fit]:
    """timm's network of that name, and those of its tensors."""
    name, shapes = found.architecture.name.partition(":")[2], shapes_of(view.state)
    for twin in _TWINS.get(name, (name,)):
        if twin in timm.names():
            known = fit(timm.architecture(twin), shapes)
            if (fitted := known if known.exact else adapt(known, shapes)) is not None:
                yield fitted


def differing(view: View, found: Fit) -> list[str]:
    """Names of modules that only a file or only a network has, but for what was changed in it."""
    net = skeleton(found.architecture, found.options)
    for change in found.changes:
        replace_module(net, change.path, change.make())
    changed = [f"{change.path}." for change in found.changes]
    changed += [f"{name.partition('.')[0]}." for name in found.left_out]
    # what pools before a head may have gone with it
    changed += ["avgpool.", "global_pool."] if found.has_features else []
    own = {name for name, _ in net.named_modules()} - {""}
    return sorted(
        name
        for name in own ^ view.modules
        if not f"{name}.".startswith((*changed,))
        and not APART.search(name.partition(".")[0])
        and "parametrizations" not in name
    )

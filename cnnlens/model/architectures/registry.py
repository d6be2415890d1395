"""Every name that stands for an architecture; ``file.py:factory`` is the user's own code."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from inspect import signature
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from torch import nn

from cnnlens.errors import CnnlensError, UsageError, did_you_mean, meant_file
from cnnlens.model import zoo
from cnnlens.model.architectures import Architecture, timm, torchvision
from cnnlens.model.architectures.importing import Anew, importing
from cnnlens.model.architectures.own_code import Code, code_of, folder_of, is_factory
from cnnlens.model.architectures.trusted import trust
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.uncompiled import inner, take_apart

# in the order in which a bare name is looked up; timm, which is imported for it, comes last
REGISTRIES = {
    "torchvision": torchvision.architecture,
    "zoo": zoo.architecture,
    "timm": timm.architecture,
}

_FACTORIES = 8  # of a module that are named where none is near


def is_spec(text: str) -> bool:
    """Whether a text has the form of a registry name or a factory, rather than of a file."""
    return text.startswith(tuple(f"{r}:" for r in REGISTRIES)) or is_factory(text)


def architecture(spec: str) -> Architecture:
    """Look up ``torchvision:NAME``, ``timm:NAME``, ``zoo:NAME``, a factory or a bare name.

    Raises
    ------
    UsageError
        When nothing of that name exists.
    """
    prefix, colon, name = spec.partition(":")
    if colon and prefix in REGISTRIES:
        return REGISTRIES[prefix](name)
    if is_factory(spec):
        return factory_architecture(spec)
    return _bare(spec)


def named(name: str) -> Iterator[Architecture]:
    """All networks of a bare name: torchvision's, the zoo's and timm's, in this order."""
    found = False
    for prefix, look_up in REGISTRIES.items():
        if name in _names(prefix):
            found = True
            yield look_up(name)
    if not found and (now := _renamed_by_timm(name)) in timm.names():
        yield timm.architecture(now)


def _names(prefix: str) -> Collection[str]:
    if prefix == "zoo":
        return zoo.ZOO
    return torchvision.names() if prefix == "torchvision" else timm.names()


def _renamed_by_timm(name: str) -> str:
    """What timm calls a network now by whose former name it still builds it; else the name."""
    if not timm.names():
        return name
    from timm.models import get_deprecated_models

    return (get_deprecated_models().get(name) or name).partition(".")[0]


def _bare(name: str) -> Architecture:
    for known in named(name):
        return known
    everything = [n for prefix in REGISTRIES for n in _names(prefix)]
    raise UsageError(
        f"no architecture '{name}'",
        did_you_mean(name, everything)
        or "give torchvision:NAME, timm:NAME, zoo:NAME or file.py:factory",
    )


def pretrained(spec: str, weights: str) -> tuple[nn.Module, Preprocess | None]:
    """Build ``torchvision:NAME`` or ``timm:NAME`` with weights of the registry's own.

    Raises
    ------
    UsageError
        When there are no such weights, or the registry has none at all.
    CnnlensError
        When they cannot be downloaded.
    """
    prefix, _, name = architecture(spec).name.partition(":")
    if prefix == "torchvision":
        return torchvision.pretrained(name, weights)
    if prefix == "timm":
        return timm.pretrained(name, weights)
    raise UsageError(f"{spec} has no weights to choose from", f"leave out @{weights}")


def factory_architecture(spec: str) -> Architecture:
    """Import the code behind ``file.py:factory`` or ``package.module:factory``.

    Raises
    ------
    UsageError
        When the file, the module or the factory does not exist.
    CnnlensError
        When the code itself fails.
    """
    factory, code = load_factory(spec, "an nn.Module")
    make = _checked(spec, factory)
    return Architecture(name=spec, make=make, source=code.text, source_before=code.before)


def load_factory(spec: str, made: str) -> tuple[Callable[..., Any], Code]:
    """Import a callable that returns what is `made`, and what its code is; errors as above."""
    place, _, name = spec.rpartition(":")
    path = Path(place).expanduser()
    with importing(folder_of(spec)) as loaded:
        module = _from_file(path) if place.endswith(".py") else _from_name(place)
        file = getattr(module, "__file__", None)
        code = code_of("" if place.endswith(".py") else place, file, loaded)
    factory = getattr(module, name, None)
    if factory is None:
        offered = _factories_in(module)
        raise UsageError(
            f"{place} has no '{name}'", did_you_mean(name, offered) or _listed(offered)
        )
    if not callable(factory):
        raise UsageError(f"'{name}' in {place} is no callable that returns {made}")
    trust(spec)  # it is there: a name alone would let in what is put there later
    return factory, code


def _factories_in(module: ModuleType) -> list[str]:
    """Name what can be called without arguments: what the module defines, else what it imports."""
    package = module.__name__.partition(".")[0]

    def is_own(value: Any) -> bool:
        is_code = isinstance(value, type | FunctionType)
        return not is_code or value.__module__.partition(".")[0] == package

    found = {n: one for n, one in vars(module).items() if n[0] != "_" and _is_ready(one)}
    return [name for name, one in found.items() if is_own(one)] or [*found]


def _is_ready(value: Any) -> bool:
    try:
        return isinstance(value, nn.Module) or signature(value).bind() is not None
    except (TypeError, ValueError):  # no callable, one that needs arguments, or nobody can tell
        return False


def _listed(offered: Sequence[str]) -> str:
    """Name the first of some factories."""
    if not offered:
        return "nothing in it can be called without arguments: write a function that is"
    more = f" and {len(offered) - _FACTORIES} more" if len(offered) > _FACTORIES else ""
    return f"it has {', '.join(offered[:_FACTORIES])}{more}"


def _checked(spec: str, factory: Callable[..., Any]) -> Callable[..., nn.Module]:
    def make(**options: Any) -> nn.Module:
        if isinstance(factory, nn.Module):
            return unwrapped(factory)  # already built: as good as a callable that returns it
        try:
            with importing(folder_of(spec)):
                net = factory(**options)
        except (Exception, SystemExit) as error:
            raise CnnlensError(
                f"{spec} failed: {reason_of(error)}",
                "cnnlens calls it without arguments; run it in Python to see the traceback",
            ) from error
        if not isinstance(net, nn.Module):
            raise CnnlensError(
                f"{spec} returned {_kind(net)}, not an nn.Module",
                "name a callable that returns the network",
            )
        net = unwrapped(net)
        take_apart(net)
        return net

    return make


def unwrapped(net: nn.Module) -> nn.Module:
    """Take a network out of what computes it in parallel, or compiled: the same numbers.

    Parts of it may be compiled still.

    Raises
    ------
    UsageError
        When it is no module.
    """
    if not isinstance(net, nn.Module):
        raise UsageError(
            f"an nn.Module is needed, not a {type(net).__name__}",
            "give the network itself, or name its file",
        )
    while True:
        within = inner(net)
        if isinstance(net, nn.DataParallel | nn.parallel.DistributedDataParallel):
            within = net.module
        if within is None:
            return net
        net = within


def _kind(thing: object) -> str:
    return "nothing" if thing is None else f"a {type(thing).__name__}"


def reason_of(error: BaseException) -> str:
    """Say in a line why someone else's code failed."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        near = meant_file(path.name, [p.name for p in path.parent.glob("*.py")])
        raise UsageError(f"{path} does not exist", near)
    name = f"cnnlens_factory_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path, loader=Anew(name, str(path)))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        raise CnnlensError(f"{path} cannot be imported: {reason_of(error)}") from error
    return module


def _from_name(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise UsageError(
                f"no module '{error.name}' to import",
                "give a path to a file (file.py:factory), or install the package",
            ) from None
        raise CnnlensError(f"{name} cannot be imported: {reason_of(error)}") from error
    except (Exception, SystemExit) as error:
        raise CnnlensError(f"{name} cannot be imported: {reason_of(error)}") from error

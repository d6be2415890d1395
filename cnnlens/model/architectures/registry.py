"""Every name that stands for an architecture; ``file.py:factory`` is the user's own code."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from torch import nn

from cnnlens.errors import CnnlensError, UsageError, did_you_mean
from cnnlens.model import zoo
from cnnlens.model.architectures import Architecture, timm, torchvision
from cnnlens.model.preprocess import Preprocess

REGISTRIES = {
    "torchvision": torchvision.architecture,
    "timm": timm.architecture,
    "zoo": zoo.architecture,
}


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


def _bare(name: str) -> Architecture:
    known = {
        "torchvision": torchvision.names(),
        "zoo": tuple(zoo.ZOO),
        "timm": timm.names(),
    }
    for prefix, names in known.items():
        if name in names:
            return REGISTRIES[prefix](name)
    everything = [n for names in known.values() for n in names]
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


def is_factory(spec: str) -> bool:
    """Whether a spec has the form of a factory (a file that exists under that name comes first)."""
    place, colon, name = spec.rpartition(":")
    if not colon or not name.isidentifier() or place in ("torchvision", "timm", "zoo"):
        return False
    return place.endswith(".py") or all(part.isidentifier() for part in place.split("."))


def factory_architecture(spec: str) -> Architecture:
    """Import the code behind ``file.py:factory`` or ``package.module:factory``.

    Raises
    ------
    UsageError
        When the file, the module or the factory does not exist.
    CnnlensError
        When the code itself fails.
    """
    factory, source = load_factory(spec, "an nn.Module")
    return Architecture(name=spec, make=_checked(spec, factory), source=source)


def load_factory(spec: str, made: str) -> tuple[Callable[..., Any], str]:
    """Import a callable that returns what is `made`, and the text of its code; errors as above."""
    place, _, name = spec.rpartition(":")
    module = _from_file(Path(place).expanduser()) if place.endswith(".py") else _from_name(place)
    factory = getattr(module, name, None)
    if factory is None:
        offered = [n for n in vars(module) if callable(getattr(module, n)) and n[0] != "_"]
        raise UsageError(f"{place} has no '{name}'", did_you_mean(name, offered))
    if not callable(factory):
        raise UsageError(f"'{name}' in {place} is no callable that returns {made}")
    return factory, _source(module)


def _checked(spec: str, factory: Callable[..., Any]) -> Callable[..., nn.Module]:
    def make(**options: Any) -> nn.Module:
        if isinstance(factory, nn.Module):
            return unwrapped(factory)  # already built: as good as a callable that returns it
        try:
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
        return unwrapped(net)

    return make


def unwrapped(net: nn.Module) -> nn.Module:
    """Take a network out of what computes it in parallel, or compiled: the same numbers.

    Raises
    ------
    ValueError
        When it is no module.
    """
    if not isinstance(net, nn.Module):
        raise ValueError(f"an nn.Module is needed, not a {type(net).__name__}")
    while True:
        inner: Any = getattr(net, "_orig_mod", None)  # torch.compile's
        if isinstance(net, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = net.module
        if not isinstance(inner, nn.Module):
            return net
        net = inner


def _kind(thing: object) -> str:
    return "nothing" if thing is None else f"a {type(thing).__name__}"


def reason_of(error: BaseException) -> str:
    """Say in a line why someone else's code failed."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class _Anew(SourceFileLoader):
    """Compiles a user's file whenever it is opened, and leaves no bytecode beside it.

    Python takes bytecode for the file's as long as size and second of writing are the same, so that
    a network could be computed by one text and fingerprinted by another.
    """

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        near = did_you_mean(path.name, [p.name for p in path.parent.glob("*.py")])
        raise UsageError(f"{path} does not exist", near)
    name = f"cnnlens_factory_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_Anew(name, str(path)))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)  # so that the file can import its neighbours, as when it is run
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        raise CnnlensError(f"{path} cannot be imported: {reason_of(error)}") from error
    finally:
        sys.path.remove(folder)
    return module


def _from_name(name: str) -> ModuleType:
    folder = str(Path.cwd())
    sys.path.insert(0, folder)  # the console script, unlike `python -m`, leaves it out
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
    finally:
        sys.path.remove(folder)


def _source(module: ModuleType) -> str:
    """The code's text: two files of one name with equal weights may still compute differently."""
    file = getattr(module, "__file__", None)
    try:
        return Path(file).read_text(encoding="utf-8") if file else ""
    except (OSError, UnicodeDecodeError):
        return ""

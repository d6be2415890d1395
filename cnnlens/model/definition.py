"""What a network in memory computes, read off its definition: the key of its results.

A file says all that a network is; a module in memory may be changed by any line of a notebook: an
attribute, a mask that no state dict has, a hook, `forward` itself. Its outputs on some noise would
see that, but no hash of floats is the same on another device or with another number of threads,
and a rounded one is a matter of luck: the same network opened tomorrow must be the same. So what
decides the outputs is hashed as it stands: state, attributes, hooks, and the code of classes and
functions that no installed library has brought (those are known by their names).

What a pass itself writes (counters, activations that a hook keeps) would make every call's network
another one. It is found by looking before and after a pass, see `steady`, and left out.
"""

from __future__ import annotations

import enum
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from types import (
    FunctionType,
    MethodType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as everywhere

from cnnlens.model.code_marks import (
    code_text,
    has,
    is_installed_class,
    is_own_function,
    read_globals,
    script_text,
)
from cnnlens.model.uncompiled import inner

_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
# of a module: read by name below, or nothing that a pass depends on
_ASIDE = {
    *_HOOKS, "_parameters", "_buffers", "_modules", "_non_persistent_buffers_set",
    "_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks", "_forward_hooks_always_called", "_is_full_backward_hook",
    "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs", "_compiled_call_impl",
    "_is_torch_compile", "_graph",
}  # fmt: skip
# of a class: where it stands, what it is called, what Python keeps there for itself
_NAMES = {
    "__module__", "__doc__", "__dict__", "__weakref__", "__qualname__", "__annotations__",
    "__abstractmethods__", "_abc_impl", "__firstlineno__", "__static_attributes__",
    "__annotate__", "__annotate_func__", "__annotations_cache__", "__parameters__",
    "__orig_bases__", "__slotnames__", "_autograd_function_id",
}  # fmt: skip
_PLAIN = (type(None), bool, int, float, complex, str, bytes, np.generic, torch.dtype, slice, range,
          torch.layout, torch.memory_format, type(Ellipsis))  # fmt: skip
_LISTS = (list, tuple, deque, set, frozenset)
# libraries whose objects do not compute: what hangs on them is left alone
_MACHINERY = {"logging", "threading", "weakref", "tqdm", "lightning", "pytorch_lightning"}
_DATA = (*_PLAIN, *_LISTS, Tensor, np.ndarray, Mapping)

Slots = dict[str, str]


def slots(net: Any) -> Slots:
    """Read everything that decides what a network computes, or another object of the user's.

    Parameters
    ----------
    net : torch.nn.Module
        As it stands: the mode of its modules counts.

    Returns
    -------
    dict of str to str
        Digests by what they are of: ``net.conv1 state weight``, ``net.gain``,
        ``net class 0.forward``.
        They are the same in every process, and on every device.
    """
    reader = _Reader()
    reader.read("net", net)
    for table in _HOOKS:  # those of all modules
        for number, hook in enumerate(getattr(everywhere, f"_global{table}", {}).values()):
            reader.read(f"all{table} {number}", hook)
    return reader.slots


def digest_of(found: Mapping[str, str], without: Iterable[str] = ()) -> str:
    """Return one hash, of 16 hexadecimal digits, over what `slots` found."""
    left = found.keys() - set(without)
    text = "\n".join(f"{name}\0{found[name]}" for name in sorted(left))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def tensor_bytes(tensor: Tensor) -> Any:
    """Return a dense tensor's values, in the order of its indices, as bytes."""
    dense = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    return dense.reshape(-1).view(torch.uint8).numpy().data  # bytes: NumPy has no bfloat16


class _Reader:
    """Walks from a network to all that it holds; each thing is read where it is met first."""

    def __init__(self) -> None:
        self.slots: Slots = {}
        self._met: dict[int, tuple[str, Any]] = {}  # by identity; kept, so that none is reused
        self._hashed: dict[int, tuple[str, Tensor]] = {}
        self._within: list[int] = []  # containers that are being read

    # ---- what has parts with names

    def read(self, where: str, value: Any) -> None:
        """Read whatever stands at `where`."""
        if isinstance(value, nn.Module):
            value = inner(value) or value  # compiled: the same numbers
        elif isinstance(value, FunctionType):
            value = getattr(value, "_torchdynamo_orig_callable", value)
        by_parts = self._reading(value)
        if by_parts is None:
            self.slots[where] = self.digest(value)
        elif id(value) in self._met:
            self.slots[where] = f"as {self._met[id(value)][0]}"
        else:
            self._met[id(value)] = where, value
            by_parts(where, value)

    def _reading(self, value: Any) -> Callable[[str, Any], None] | None:
        """Say how to read what has parts with names; None: as one thing."""
        if isinstance(value, nn.Module):
            return self._module
        if isinstance(value, type):
            return self._class
        if isinstance(value, FunctionType | MethodType | staticmethod | classmethod | property):
            return self._function
        if has(value, "__wrapped__") or isinstance(value, partial):
            return self._function
        if isinstance(value, (*_DATA, enum.Enum, ModuleType, torch.device)):
            return None
        has_parts = isinstance(value, torch.ScriptObject) or has(value, "__dict__")
        return self._object if has_parts or _parts(value) else None

    def _module(self, where: str, module: nn.Module) -> None:
        children = module._modules
        self.slots[where] = f"{_name(type(module))} {list(children)}"
        if isinstance(module, torch.jit.ScriptModule):
            self.slots[f"{where} script"] = script_text(module)
        self._classes(where, type(module))
        for name, value in self._state(module).items():
            self.slots[f"{where} state {name}"] = self.digest(value)
        for name, value in vars(module).items():
            if name not in _ASIDE and not isinstance(module, torch.jit.ScriptModule):
                self.read(f"{where}.{name}", value)
        for table in _HOOKS:
            for number, hook in enumerate(vars(module).get(table, {}).values()):
                if not str(getattr(hook, "__module__", "")).startswith("cnnlens."):
                    self.read(f"{where} {table.strip('_')} {number}", hook)
        for name, child in children.items():
            self.read(f"{where}.{name}", child)

    def _state(self, module: nn.Module) -> dict[str, Any]:
        """Parameters and buffers, those too that no state dict has, and what one has besides."""
        found: dict[str, Any] = {**module._parameters, **module._buffers}
        with suppress(Exception):  # whatever a caller's state dict raises
            module._save_to_state_dict(found, "", True)  # packed weights, extra state
        return found

    def _classes(self, where: str, kind: type) -> None:
        for number, one in enumerate(kind.__mro__[:-1]):
            self.read(f"{where} class {number}", one)

    def _class(self, where: str, kind: type) -> None:
        self.slots[where] = _name(kind)
        installed = is_installed_class(kind)
        for name, value in vars(kind).items():
            if is_own_function(value) or not (installed or name in _NAMES or _is_slot(value)):
                self.read(f"{where}.{name}", value)

    def _function(self, where: str, value: Any) -> None:
        self.slots[where] = type(value).__name__
        if isinstance(value, MethodType):
            self.read(f"{where} of", value.__self__)
        if isinstance(value, partial):
            self.slots[where] = self.digest([value.args, value.keywords])
            self.read(f"{where} partial", value.func)
        elif isinstance(value, property):
            for name in ("fget", "fset"):
                self.read(f"{where} {name}", getattr(value, name))
        elif isinstance(value, MethodType | staticmethod | classmethod):
            self.read(f"{where} function", value.__func__)
        elif is_own_function(value) and isinstance(value, FunctionType):
            self._code(where, value)
        elif has(value, "__wrapped__"):
            self.slots[where] = _name(type(value))
            self.read(f"{where} wraps", value.__wrapped__)
        else:
            self.slots[where] = _name(value)

    def _code(self, where: str, function: FunctionType) -> None:
        """A function that nobody has installed, with all that it reads."""
        self.slots[where] = code_text(function.__code__, function.__doc__)
        self.slots[f"{where} defaults"] = self.digest(
            [function.__defaults__, function.__kwdefaults__]
        )
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        for name, cell in cells:
            with suppress(ValueError):  # an empty one
                self.read(f"{where} closure {name}", cell.cell_contents)
        for name, value in [*read_globals(function), *vars(function).items()]:
            self.read(f"{where} {name}", value)

    def _object(self, where: str, value: Any) -> None:
        """Anything else: attributes; of what a library made only data, not all it hangs on."""
        kind = type(value)
        self.slots[where] = _name(kind)
        if isinstance(value, torch.ScriptObject):
            with suppress(Exception):  # one that cannot be pickled
                self.slots[where] = self.digest(value.__getstate__())
            return
        if kind.__module__.partition(".")[0] in _MACHINERY:
            return
        self._classes(where, kind)
        installed = is_installed_class(kind) and not isinstance(value, SimpleNamespace)
        for name, part in _parts(value).items():
            if not installed or isinstance(part, (*_DATA, nn.Module)) or is_own_function(part):
                self.read(f"{where}.{name}", part)

    # ---- what is one thing

    def digest(self, value: Any) -> str:
        """Hash a value whole."""
        return hashlib.sha256(self._text(value).encode("utf-8", "replace")).hexdigest()

    def _text(self, value: Any) -> str:
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, np.ndarray) and value.dtype != object:
            digest = hashlib.sha256(np.ascontiguousarray(value).data).hexdigest()
            return f"array {value.dtype} {value.shape} {digest}"
        if isinstance(value, enum.Enum):
            return f"{_name(type(value))}.{value.name}"
        if isinstance(value, _PLAIN):
            return f"{type(value).__name__} {value!r}"
        if isinstance(value, torch.device):
            return "device"  # the same network on another one is the same
        if isinstance(value, ModuleType):
            return value.__name__
        if isinstance(value, (*_LISTS, Mapping, np.ndarray)):
            return self._container(value)
        if self._reading(value) is None:
            return _name(type(value)) if not callable(value) else _name(value)
        inner = _Reader()
        inner._met, inner._hashed, inner._within = self._met, self._hashed, self._within
        inner.read("", value)
        return digest_of(inner.slots)

    def _container(self, value: Any) -> str:
        if id(value) in self._within:
            return "itself"
        self._within.append(id(value))
        if isinstance(value, Mapping):
            parts = [f"{self.digest(k)}: {self.digest(v)}" for k, v in value.items()]
        else:
            parts = [self.digest(one) for one in value]
        self._within.pop()
        return (
            f"{_name(type(value))} {sorted(parts) if isinstance(value, set | frozenset) else parts}"
        )

    def _tensor(self, tensor: Tensor) -> str:
        if id(tensor) not in self._hashed:
            about = f"{tensor.dtype} {tuple(tensor.shape)} {tensor.layout}"
            self._hashed[id(tensor)] = f"{about} {self._values(tensor)}", tensor
        return self._hashed[id(tensor)][0]

    def _values(self, tensor: Tensor) -> str:
        if hasattr(tensor, "__tensor_flatten__"):  # one that is made of others
            names, _ = tensor.__tensor_flatten__()
            return f"{_name(type(tensor))} {[self._text(getattr(tensor, one)) for one in names]}"
        if tensor.is_quantized:
            per = tensor.dequantize()  # of the same integers, with another scale, others
            return f"{self._values(tensor.int_repr())} {self._values(per)}"
        if tensor.is_meta:
            return "no values"
        if tensor.layout != torch.strided:
            tensor = tensor.to_dense()
        return hashlib.sha256(tensor_bytes(tensor)).hexdigest()


def _parts(value: Any) -> dict[str, Any]:
    """Attributes of an object, those of its slots too."""
    names = [n for kind in type(value).__mro__ for n in vars(kind).get("__slots__", ())]
    slots = {n: getattr(value, n) for n in names if n != "__dict__" and has(value, n)}
    return slots | getattr(value, "__dict__", {})


def _name(thing: Any) -> str:
    kind = thing if has(thing, "__qualname__") else type(thing)
    return f"{getattr(kind, '__module__', '')}.{kind.__qualname__}"


def _is_slot(value: Any) -> bool:
    return type(value).__name__ in (
        "member_descriptor",
        "getset_descriptor",
        "builtin_function_or_method",
    )

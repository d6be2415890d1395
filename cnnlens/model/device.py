"""Which machine a network runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnlens.errors import UsageError

if TYPE_CHECKING:
    import torch


def resolve_device(name: str = "auto") -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda[:N]`` or ``mps`` into a device that exists here.

    Raises
    ------
    UsageError
        When the name is no device, or this machine has none of that kind.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if _mps() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"no device '{name}'", "choose auto, cpu, cuda[:N] or mps") from None
    if device.type == "cuda":
        _check_cuda(device)
    elif device.type == "mps" and not _mps():
        raise UsageError("device 'mps' is not available on this machine", "use --device auto")
    elif device.type not in ("cpu", "mps"):
        raise UsageError(f"no device '{name}'", "choose auto, cpu, cuda[:N] or mps")
    return device


def _mps() -> bool:
    import torch

    return torch.backends.mps.is_available()


def _check_cuda(device: torch.device) -> None:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise UsageError(f"device '{device}' is not available on this machine", "use --device auto")
    if device.index is not None and device.index >= count:
        raise UsageError(
            f"device '{device}' does not exist: this machine has {count}",
            f"choose cuda:0 to cuda:{count - 1}",
        )


def is_memory_error(error: BaseException) -> bool:
    """Whether a device or the machine ran out of memory: with less at once it may still work."""
    import torch

    text = str(error).lower()
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        words in text for words in ("out of memory", "can't allocate memory", "not enough memory")
    )

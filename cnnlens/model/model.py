"""What every engine works on: a network in evaluation mode, and how to feed it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from cnnlens.errors import UsageError
from cnnlens.model.borrowed import borrowed
from cnnlens.model.gradients import in_full_precision
from cnnlens.model.opened_from import Marks
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.uncompiled import eagerly

NAMES_ASSUMED = "names of outputs are assumed: "


@dataclass(repr=False)
class Model:
    """An opened network.

    Attributes
    ----------
    net : torch.nn.Module
        In evaluation mode, parameters frozen, on the device it will run on.
    spec : str
        What the user typed: a path, ``torchvision:resnet18``, ``file.py:factory``.
    arch : str
        What it turned out to be, e.g. ``torchvision:resnet18``.
    preprocess : Preprocess
        How pixels become its input.
    classes : list of str or None
        Names of its outputs, where they are known.
    classes_source : str
        Who says so: ``--classes FILE``, the checkpoint's key, class folders; of names that nobody
        said it begins with "assumed".
    fingerprint : str
        Hash of architecture and weights, of a network in memory of its definition (see
        `cnnlens.model.definition`): equal fingerprints, equal network.
    batch : int or None
        The only batch size it accepts (an exported program with a static shape), else None.
    notes : list of str
        What was inferred or assumed while opening, one line each, for the user to read.
    surgery : list of dict
        Plans of what fine-tuning did to the architecture, see `cnnlens.model.surgery`.
    interpretable : list of str
        Modules that fine-tuning was to make mean something, in order; empty where there are none.
    stripped, assumed : list of str
        What was left out of the file or taken off its names, and what nobody has said; each is
        told in the notes too.
    head : str or None
        Which of several outputs is the classes', by name or number; None: the usual one.
    headless : bool
        Whether its classifier was cut off: its outputs are features, no scores of classes.
    epoch : float or None
        Of its training, where its file says it.
    precision : str
        Of passes that only read activations and scores: "float32", "bfloat16" or "float16".
    unsteady : list of str or None
        What an image's values depend on besides the image, a line each; None: not looked at yet.
    lent_to : torch.device or None
        Where a caller's own module is to run while it is in use; None for a network of ours.
    fingerprint_before : callable or None
        What an earlier version of cnnlens gave it, of a network of a user's own code.
    code : str
        Its fingerprint of today, where it goes by the earlier one, as its workspace does.
    files : mapping
        What it was opened from, each file with what tells it from a later one of its name.
    """

    net: nn.Module
    spec: str
    arch: str
    preprocess: Preprocess
    classes: list[str] | None
    fingerprint: str
    batch: int | None = None
    notes: list[str] = field(default_factory=list)
    surgery: list[dict[str, Any]] = field(default_factory=list)
    classes_source: str = ""
    stripped: list[str] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)
    head: str | None = None
    headless: bool = False
    epoch: float | None = None
    precision: str = "float32"
    unsteady: list[str] | None = None
    lent_to: torch.device | None = None
    fingerprint_before: Callable[[], str] | None = None
    code: str = ""
    interpretable: list[str] = field(default_factory=list)
    files: Marks = field(default_factory=dict)

    @property
    def has_assumed_classes(self) -> bool:
        """Whether the names of its outputs are what nobody said."""
        return self.classes_source.startswith("assumed")

    def called(self, names: list[str], source: str) -> Model:
        """Return it with other names of its outputs, and who says so."""
        notes = [note for note in self.notes if not note.startswith(NAMES_ASSUMED)]
        return replace(self, classes=names, classes_source=source, notes=notes)

    @property
    def has_random_weights(self) -> bool:
        """Whether nobody has trained it, as far as that is known."""
        return any("random weights" in note for note in self.notes)

    def computing(self, precision: str) -> Model:
        """Return it with passes that only read in a precision; float32 leaves it as it is.

        Raises
        ------
        UsageError
            For float16 on the CPU, which has no arithmetic of its own for it.
        """
        if precision in ("float32", self.precision):
            return self
        device = self.lent_to or self.device
        if precision == "float16" and device.type == "cpu":
            raise UsageError("--precision float16 is for a GPU", "on the CPU: --precision bfloat16")
        return replace(self, precision=precision)

    def autocast(self) -> AbstractContextManager[object]:
        """Within this block the network computes in its precision; weights stay as they are."""
        if self.precision == "float32":
            return in_full_precision()
        return torch.autocast(self.device.type, getattr(torch, self.precision))

    def laid_out(self, x: torch.Tensor) -> torch.Tensor:
        """Lay an input (N, C, H, W) out as its precision is fastest: channels last on CUDA."""
        if self.precision == "float32" or x.device.type != "cuda" or x.ndim != 4:
            return x
        return x.contiguous(memory_format=torch.channels_last)

    @property
    def numerics(self) -> dict[str, str]:
        """What results depend on besides: the precision, where it is not the usual one."""
        return {} if self.precision == "float32" else {"precision": self.precision}

    def __repr__(self) -> str:
        height, width = self.preprocess.size
        known = f"{len(self.classes)} classes" if self.classes else "classes without names"
        return (
            f"Model({self.arch}, input {self.preprocess.channels}×{height}×{width}, {known}, "
            f"fingerprint {self.fingerprint})"
        )

    def example(self, seed: int = 0) -> torch.Tensor:
        """Return an input of noise, (N, C, H, W), the same every time: to see what happens."""
        import torch

        size = (self.batch or 1, self.preprocess.channels, *self.preprocess.size)
        noise = torch.Generator().manual_seed(seed)
        x = torch.rand(size, generator=noise, dtype=torch.float32, device="cpu")
        return self.preprocess.normalize(x.to(self.device))

    def in_use(self) -> AbstractContextManager[object]:
        """Within this block the network is ready; a caller's own is then put back as it was."""
        return eagerly() if self.lent_to is None else borrowed(self.net, self.lent_to)

    @property
    def device(self) -> torch.device:
        """Where its parameters live."""
        import torch

        tensors = [*self.net.parameters(), *self.net.buffers()]
        return tensors[0].device if tensors else torch.device("cpu")


def fingerprint(arch: str, net: nn.Module, source: str = "") -> str:
    """Hash an architecture and its weights, the same on every device.

    Parameters
    ----------
    arch : str
        The architecture's name.
    net : torch.nn.Module
        Its parameters and persistent buffers are read: names, types, shapes, bytes.
    source : str
        Whatever else decides how it computes.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    digest = hashlib.sha256(f"{arch}\0{source}\0".encode())
    state = {k: v for k, v in net.state_dict().items() if isinstance(v, torch.Tensor)}
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        # bytes, because NumPy has no bfloat16
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]

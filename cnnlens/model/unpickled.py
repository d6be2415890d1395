"""Networks that a file holds whole, unpickled because its user trusts it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from cnnlens.model.architectures import Opened, built_for, first_convolution
from cnnlens.model.architectures.own_code import code_of_classes
from cnnlens.model.entries import View
from cnnlens.model.fed import fed_as_said
from cnnlens.model.noted import noted_in
from cnnlens.model.output_names import with_names
from cnnlens.model.parametrized import refuse_quantized
from cnnlens.model.preprocess import Preprocess

PICKLED = "pickle:"  # how the architecture of such a network begins


def open_unpickled(
    module: nn.Module, content: Any, path: Path, others: Sequence[str] = ()
) -> Opened:
    """Open a network that was pickled whole, with what the file says of it.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    content : object
        All that the file holds.
    path : Path
        The file.
    others : sequence of str
        Keys of other networks in it.

    Raises
    ------
    CnnlensError
        When it is a quantized one.
    """
    refuse_quantized(path, module)
    kind = f"{type(module).__module__}.{type(module).__qualname__}"
    beside = [f"it also holds {', '.join(others)}: --weights opens it"] if others else []
    opened = Opened(module, f"{PICKLED}{kind}", notes=[f"unpickled {kind}", *beside])
    code = code_of_classes(module)
    opened.source, opened.source_before = code.text, code.before
    return with_names(_fed(opened, content), content)


def _fed(opened: Opened, content: Any) -> Opened:
    """Give a network the preprocessing that it keeps itself, or that its file notes beside it."""
    if (kept := _kept(getattr(opened.net, "transforms", None))) is not None:
        return replace(opened, preprocess=kept)
    known = Preprocess(size=built_for(opened.net) or Preprocess.size)
    if type(opened.net).__module__.startswith(_ULTRALYTICS):
        known = replace(known, mean=(0.0,) * 3, std=(1.0,) * 3)
    first = first_convolution(opened.net)
    noted = noted_in(content, first[1].in_channels if first else known.channels)
    opened, _ = fed_as_said(replace(opened, preprocess=known), View("", {}), [], noted, True)
    return opened


_ULTRALYTICS = "ultralytics."  # its classifiers take pixels in [0, 1] as they are
_STEPS = ("Resize", "CenterCrop", "ToTensor", "Normalize")


def _kept(transforms: Any) -> Preprocess | None:
    """Read torchvision's usual steps, where these are all; None of anything else."""
    steps = {type(step).__name__: step for step in getattr(transforms, "transforms", None) or ()}
    if tuple(steps) != _STEPS or len(transforms.transforms) != len(_STEPS):
        return None
    resize, crop, _, norm = steps.values()
    side = [resize.size] if isinstance(resize.size, int) else list(resize.size)
    if len(side) != 1 or not isinstance(crop.size, list | tuple):
        return None  # stretched to one size
    mean, std = (tuple(float(v) for v in values) for values in (norm.mean, norm.std))
    height, width = (int(v) for v in crop.size)
    name = str(getattr(resize.interpolation, "value", "bilinear"))
    return Preprocess((height, width), mean, std, side[0], name, source="its transforms")

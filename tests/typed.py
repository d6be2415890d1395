"""What a checker of types sees of cnnlens, from outside: read by mypy (test_types), never run."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

from torch import nn

import cnnlens
from cnnlens import Investigation, Preprocess, UsageError, open_model
from cnnlens.data.dataset import ImageSet
from cnnlens.model.layers import Layers
from cnnlens.model.model import Model


def looked_at(net: nn.Module) -> None:
    lens = cnnlens.Investigation(net, "out", preprocess=Preprocess((32, 32)))
    assert_type(lens, Investigation)
    assert_type(lens.model, Model)
    assert_type(lens.layers(), Layers)
    assert_type(lens.report(), Path)
    assert_type(open_model("model.pt"), Model)
    assert_type(cnnlens.find_layers(cnnlens.wrap_module(net)), Layers)
    assert_type(cnnlens.UsageError("what").hint, str)
    _: ImageSet = cnnlens.open_data("photos")


def mistaken(net: nn.Module) -> None:
    cnnlens.Investigatoin(net)  # type: ignore[attr-defined]
    cnnlens.Investigation(net, batch_size="8")  # type: ignore[arg-type]
    raise UsageError(3)  # type: ignore[arg-type]

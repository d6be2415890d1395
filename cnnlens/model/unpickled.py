"""Networks that a file holds whole, unpickled because its user trusts it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from cnnlens.model.architectures import Opened
from cnnlens.model.architectures.own_code import code_of_classes
from cnnlens.model.output_names import with_names
from cnnlens.model.parametrized import refuse_quantized

PICKLED = "pickle:"  # how the architecture of such a network begins


def open_unpickled(module: nn.Module, content: Any, path: Path) -> Opened:
    """Open a network that was pickled whole; `content` is all that the file holds.

    Raises
    ------
    CnnlensError
        When it is a quantized one.
    """
    refuse_quantized(path, module)
    kind = f"{type(module).__module__}.{type(module).__qualname__}"
    opened = Opened(module, f"{PICKLED}{kind}", notes=[f"unpickled {kind}"])
    code = code_of_classes(module)
    opened.source, opened.source_before = code.text, code.before
    return with_names(opened, content)

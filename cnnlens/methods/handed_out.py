"""What Python gets of a method, to keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnlens.methods.method import Method


def handed_out(method: Method) -> Any:
    """Return a method's result, or several by layer, with the pictures that they have now."""
    from cnnlens.report.shown import Shown

    result = method.result()
    for one in result.values() if isinstance(result, Mapping) else (result,):
        if isinstance(one, Shown):
            one.hold()
    return result

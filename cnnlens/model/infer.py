"""The architecture of a bare state dict, inferred from the names and shapes of its tensors."""

from __future__ import annotations

from cnnlens.errors import CnnlensError, UsageError
from cnnlens.model import torchvision_nets
from cnnlens.model.architecture import Shapes
from cnnlens.model.fit import Fit, closeness, fit


def infer(shapes: Shapes, what: str = "the state dict") -> Fit:
    """Find the one architecture a state dict belongs to.

    Parameters
    ----------
    shapes : mapping
        Tensor names to shapes.
    what : str
        How to call the state dict in messages.

    Raises
    ------
    UsageError
        When several architectures fit.
    CnnlensError
        When none does; says how near the nearest was.
    """
    tried: list[Fit] = []
    for group in torchvision_nets.likely_first(shapes):
        found = [fit(torchvision_nets.architecture(name), shapes) for name in group]
        exact = [f for f in found if f.exact]
        if exact:
            return _only(exact, what)
        tried += found
    raise _none(tried, shapes, what)


def _only(exact: list[Fit], what: str) -> Fit:
    if len(exact) == 1:
        return exact[0]
    names = [f.architecture.name for f in exact]
    more = f", … ({len(names)} in all)" if len(names) > 8 else ""
    raise UsageError(
        f"{what} fits several architectures: {', '.join(names[:8])}{more}",
        f"say which one with --arch {names[0]}",
    )


def _none(tried: list[Fit], shapes: Shapes, what: str) -> CnnlensError:
    nearest = max(tried, key=closeness)
    hint = "name the code that builds it with --arch file.py:factory"
    if not nearest.fitting:
        first = ", ".join(list(shapes)[:3])
        return CnnlensError(f"{what} fits no known architecture (it holds {first}, …)", hint)
    return CnnlensError(
        f"{what} fits no known architecture; nearest is {nearest.architecture.name}: "
        f"{nearest.fitting} of {nearest.total} tensors fit; {nearest.describe()}",
        hint,
    )

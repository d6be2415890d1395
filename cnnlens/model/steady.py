"""Three passes over noise, when a network is opened for measuring: what is written in a pass, and
whether an image's values are its own.

A network may draw numbers where it only reads (dropout without a flag), or norm an image by the
others of its batch. Its results are then of this run, or of this batch size; that is said. Reading
goes on: whoever measures the like may want just that.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from cnnlens.model.borrowed import borrowed, random_states
from cnnlens.model.definition import Slots, digest_of, slots
from cnnlens.model.model import Model
from cnnlens.model.preprocess import Preprocess
from cnnlens.model.trace import as_input, hooked, tensors

CHANCE = "the network draws numbers at random where it only reads: the same image has other values"
BATCH = "an image's values depend on the other images of its batch: on --batch-size and their order"

# by which values differ that are not the same, as part of the largest: above what TensorFloat32
# and another order of summation do in another batch, and above what the latter does in the same one
_FAR, _OTHER = 1e-2, 1e-4
_HALF = 10  # times as much in half precision
_AGAIN = 3  # passes, to see numbers that are drawn: two may be close by chance

Values = list[tuple[str, Tensor]]  # of one image: what modules returned, in order, by their paths


def unsteady(net: nn.Module, preprocess: Preprocess, batch: int | None = None) -> list[str]:
    """Say what an image's values depend on besides the image.

    Parameters
    ----------
    net : torch.nn.Module
        In evaluation mode.
    preprocess : Preprocess
        How large its input is.
    batch : int, optional
        The only batch size it takes.

    Returns
    -------
    list of str
        A line or none; none, too, where it does not run on noise, which opening says.
    """
    for rows in (batch,) if batch else (2, 1):
        with suppress(Exception), random_states():  # whatever its layers raise
            return _judged(net, *_inputs(net, preprocess, rows, fixed=batch is not None))
    return []


@dataclass
class Definition:
    """What a module in memory is: its mark, and what an image's values depend on besides."""

    mark: str
    unsteady: list[str]


@dataclass
class _Known:
    written: set[str]  # what passes write
    of: dict[tuple[Any, ...], Definition]  # by what was there before a pass


_known: WeakKeyDictionary[nn.Module, _Known] = WeakKeyDictionary()


def define(net: nn.Module, preprocess: Preprocess, place: torch.device) -> Definition:
    """Mark a module in memory by its definition, less what its own passes write.

    Passes are made where the module has changed since the last time. It is borrowed for them, and
    comes back as it was.
    """
    known = _known.setdefault(net, _Known(set(), {}))
    with borrowed(net, place):
        fed = preprocess.channels, preprocess.size
        before = digest_of(slots(net), known.written), fed
        if before not in known.of:
            found, written, says = _watched(net, preprocess)
            known.written |= written
            one = Definition(digest_of(found, known.written), says)
            known.of[before] = known.of[digest_of(found, known.written), fed] = one
    return known.of[before]


def marked(model: Model) -> Model:
    """Return a network in memory with the mark of what it is now."""
    assert model.lent_to is not None
    one = define(model.net, model.preprocess, model.lent_to)
    return replace(model, fingerprint=one.mark, unsteady=one.unsteady)


def _watched(net: nn.Module, preprocess: Preprocess) -> tuple[Slots, set[str], list[str]]:
    """Look at a module between passes: what it is after one, what another one changes."""
    for rows in (2, 1):
        with suppress(Exception):  # whatever its layers raise; opening says it
            seen: list[Slots] = []
            x, other = _inputs(net, preprocess, rows, fixed=False)
            says = _judged(net, x, other, partial(_look, net, seen))
            first, second = seen
            names = first.keys() | second.keys()
            return first, {n for n in names if first.get(n) != second.get(n)}, says
    return slots(net), set(), []


def _look(net: nn.Module, seen: list[Slots]) -> None:
    seen.append(slots(net))


def _inputs(
    net: nn.Module, preprocess: Preprocess, rows: int, fixed: bool
) -> tuple[Tensor, Tensor]:
    """Make a batch of noise (N, C, H, W), and its first image alone, or among others.

    Of one row there is no other batch: the second is another image.
    """
    place = next((t.device for t in (*net.parameters(), *net.buffers())), torch.device("cpu"))
    size = (rows + 1, preprocess.channels, *preprocess.size)
    noise = torch.rand(size, generator=torch.Generator().manual_seed(0)).to(place)
    noise[0] = 0.4 + 0.2 * noise[0]  # of less contrast: the others' mean and extremes are others
    noise[-1] *= 0.5
    x = as_input(net, preprocess.normalize(noise))
    if rows == 1:
        return x[:1], x[1:]
    return x[:-1], torch.cat([x[:1], x[2:]]) if fixed else x[:1]


def _judged(
    net: nn.Module, x: Tensor, other: Tensor, between: Callable[[], None] = lambda: None
) -> list[str]:
    """Compare an image's values in two batches; where they differ, with the first batch's again."""
    first = _values(net, x)
    between()
    second = _values(net, other)
    between()
    if len(x) > 1 and not _differ(first, second):
        return []
    if any(_differ(first, _values(net, x), _OTHER) for _ in range(_AGAIN)):
        return [CHANCE]
    return [BATCH] if len(x) > 1 else []


def _values(net: nn.Module, x: Tensor) -> Values:
    """Run a network, and keep what its modules return for the first image."""
    found: Values = []

    def keep(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            for one in tensors(output):
                if one.is_floating_point() and one.ndim and len(one) == len(x):
                    found.append((path, one[0].detach().clone()))

        return hook

    learns = any(m._backward_hooks or m._backward_pre_hooks for m in net.modules())
    with warnings.catch_warnings(), hooked([(m, keep(n)) for n, m in net.named_modules()]):
        warnings.simplefilter("ignore")  # what it says is heard when it measures
        with torch.set_grad_enabled(learns):
            output = tensors(net(x.requires_grad_() if learns else x))
            if learns:  # what backward hooks keep is written in a pass, too
                sums = [one.sum() for one in output if one.requires_grad]
                torch.autograd.grad(torch.stack(sums).sum(), x)
    return found


def _differ(one: Values, other: Values, limit: float = _FAR) -> bool:
    return any(
        path == at and a.shape == b.shape and _far(a, b, limit)
        for (path, a), (at, b) in zip(one, other, strict=False)
    )


def _far(one: Tensor, other: Tensor, limit: float) -> bool:
    limit *= _HALF if one.dtype in (torch.float16, torch.bfloat16) else 1
    a, b = one.double(), other.double()
    return a.numel() > 0 and bool((a - b).abs().max() > limit * a.abs().max())

r"""Interpretable CNN: each filter of a layer is pulled to one part of one category.

A unit's category is the one whose images excite it most, as a running mean tells. On its images
the map x is pulled to the template m around its own position; on others it is pushed down:

.. math:: -[y = c]\,w⟨x, m⟩/(a n^2) + [y ≠ c]\,w\,Σx/(a n^2)

with a the unit's usual peak (without gradient), and w weights of mean 1: an image counts by how
strong its map is, own and other images count alike in sum. The masks themselves are layers of the
network, see `cnnlens.model.mask`.

Zhang, Wu, Zhu, "Interpretable Convolutional Neural Networks", CVPR 2018; the loss that trains is
that of the authors' later program, the paper's own is `mutual`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cnnlens.interpretable.reductions import Reduce, identity, reduce_max
from cnnlens.model.mask import positions, template
from cnnlens.model.trace import hooked
from cnnlens.settings.finetune import IcnnSettings

_MEMORY = 0.9  # of running means
_STRENGTH = (0.1, 3.0)  # an image's weight relative to the mean, before it is clamped
_TAU = 10.0  # of the templates that the mutual information sees, on maps of peak 1
_PER = 64  # filters that share one weight: a filter's own does not fall with their number
_EPS = 1e-6


def filter_loss(
    x: Tensor, shape: Tensor, own: Tensor, weight: Tensor, peak: Tensor, reduce: Reduce = identity
) -> Tensor:
    """Filter loss of a layer: its mean over images and units.

    Parameters
    ----------
    x : torch.Tensor
        (N, C, H, W) rectified maps.
    shape : torch.Tensor
        (N, C, H, W) each map's template, from -1 to 1.
    own : torch.Tensor
        (N, C) bool, whether the image is of the unit's category.
    weight : torch.Tensor
        (N, C) of mean 1 over images, without gradient.
    peak : torch.Tensor
        (C,) the unit's usual peak, without gradient.
    reduce : callable
        Adds up over processes, with gradient.
    """
    cells = x.shape[2] * x.shape[3]
    pull = (x * shape).sum(dim=(2, 3))
    push = x.sum(dim=(2, 3))
    each = weight * torch.where(own, -pull, push) / ((peak + _EPS) * cells)  # (N, C)
    count = reduce(each.new_full((), float(len(each))))
    return reduce(each.sum()) / (count * each.shape[1])


def _templates(size: tuple[int, int], tau: float, beta: float, like: Tensor) -> Tensor:
    """All templates of a map, (H·W + 1, H·W): one per position, then the negative one."""
    height, width = size
    place = torch.arange(height * width, device=like.device)
    rows, columns = (place // width).to(like.dtype), (place % width).to(like.dtype)
    slope = like.new_full((height * width,), beta)
    positive = template(rows[None], columns[None], size, slope, floor=-1.0)[0].flatten(1)
    return tau * torch.cat([positive, -torch.ones_like(positive[:1])])


def mutual_information(
    x: Tensor, tau: float, beta: float = 4.0, prior: float | None = None, reduce: Reduce = identity
) -> Tensor:
    """Mutual information of each filter's maps and the templates.

    Parameters
    ----------
    x : torch.Tensor
        (N, C, H, W), none below 0.
    tau, beta : float
        Height and fall-off of the templates.
    prior : float, optional
        Probability α of all positive templates together; default n²/(n² + 1).
    reduce : callable
        Adds up over processes, with gradient.

    Returns
    -------
    torch.Tensor
        (C,) in nats.
    """
    cells = x.shape[2] * x.shape[3]
    shapes = _templates((x.shape[2], x.shape[3]), tau, beta, x)  # (T, HW)
    alpha = cells / (cells + 1) if prior is None else prior
    logs = x.new_full((cells + 1,), math.log(alpha / cells))
    logs[-1] = math.log(1 - alpha)
    score = x.flatten(2) @ shapes.T  # (N, C, T)
    top = reduce_max(score.amax(dim=0))  # (C, T)
    log_z = top + reduce((score - top).exp().sum(dim=0)).log()
    given = score - log_z  # log p(x|T)
    marginal = torch.logsumexp(given + logs, dim=2, keepdim=True)  # log p(x)
    return reduce(((given + logs).exp() * (given - marginal)).sum(dim=(0, 2)))


class Assignment(nn.Module):
    """The running category of each unit, and its usual peak.

    Parameters
    ----------
    units, categories : int
        C and K.
    """

    mean: Tensor
    seen: Tensor
    peak: Tensor

    def __init__(self, units: int, categories: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(categories, units))
        self.register_buffer("seen", torch.zeros(categories))
        self.register_buffer("peak", torch.zeros(units))

    @property
    def category(self) -> Tensor:
        """Each unit's category, (C,) int64."""
        return self.mean.argmax(dim=0)

    @torch.no_grad()
    def update(self, x: Tensor, labels: Tensor, reduce: Reduce = identity) -> None:
        """Take in a minibatch's maps (N, C, H, W) and labels (N,), -1 for no category."""
        kinds = torch.arange(len(self.mean), device=labels.device)
        belongs = (labels[:, None] == kinds).to(x.dtype)  # (N, K)
        count = reduce(belongs.sum(dim=0))  # (K,)
        sums = reduce(belongs.T @ x.mean(dim=(2, 3)))  # (K, C)
        there = count > 0
        found = sums / count.clamp_min(1)[:, None]
        first = (there & (self.seen == 0))[:, None]
        moved = torch.where(there[:, None], _MEMORY * self.mean + (1 - _MEMORY) * found, self.mean)
        self.mean = torch.where(first, found, moved)
        top = reduce_max(x.amax(dim=(0, 2, 3)))
        known = _MEMORY * self.peak + (1 - _MEMORY) * top
        self.peak = torch.where(self.seen.any(), known, top)
        self.seen = self.seen + count


class Icnn:
    """The method: masks listen, the filter loss is added.

    Parameters
    ----------
    masked : sequence of str
        Modules that mask, in order; where there is no mask, those that return the maps.
    units : sequence of int
        Of each.
    frequency : torch.Tensor
        (K,) share of each category among the training images.
    settings : IcnnSettings
        Weights.
    record : dict, optional
        What else ``new.pt`` says.
    """

    name = "icnn"

    def __init__(
        self,
        masked: Sequence[str],
        units: Sequence[int],
        frequency: Tensor,
        settings: IcnnSettings,
        record: dict[str, Any] | None = None,
    ) -> None:
        self.masked, self.settings = tuple(masked), settings
        self.assignments = nn.ModuleList(Assignment(number, len(frequency)) for number in units)
        self.frequency, self._record = frequency, record or {}
        self._outputs: dict[str, Tensor] = {}

    @contextmanager
    def hooks(self, net: nn.Module) -> Iterator[None]:
        """Keep each layer's maps, before their masks, during forward passes of `net`."""
        device = next(net.parameters()).device
        self.assignments.to(device)
        self.frequency = self.frequency.to(device)
        hooks = [(net.get_submodule(path), partial(self._keep, path)) for path in self.masked]
        try:
            with hooked(hooks):
                yield
        finally:
            self._outputs.clear()

    def _keep(self, path: str, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        if not torch.is_grad_enabled():
            return
        if self.settings.mask:
            self._outputs[path] = args[0].float()
        else:  # what comes next, such as dropout, may write over it
            self._outputs[path] = output.float() if output.dtype.itemsize < 4 else output.clone()

    def terms(self, net: nn.Module, labels: Tensor, reduce: Reduce = identity) -> dict[str, Tensor]:
        """Return ``filter_loss``, per 64 filters and summed over layers, and the last layer's
        ``mutual_information``.
        """
        losses, information = [], labels.new_zeros(()).float()
        for path, assignment in zip(self.masked, self.assignments, strict=True):
            assert isinstance(assignment, Assignment)
            x = self._outputs.pop(path)
            assignment.update(x.detach(), labels, reduce)
            loss = self._filter_loss(net, path, x, labels, assignment, reduce)
            losses.append(loss * (x.shape[1] / _PER))
            if path == self.masked[-1]:
                information = self._information(x, assignment, reduce)
        found = {"filter_loss": torch.stack(losses).sum()}
        return found | {"mutual_information": information}

    def _filter_loss(
        self,
        net: nn.Module,
        path: str,
        x: Tensor,
        labels: Tensor,
        assignment: Assignment,
        reduce: Reduce,
    ) -> Tensor:
        rows, columns = positions(x.detach(), self.settings.position)
        beta = net.get_submodule(path).beta if self.settings.mask else None
        slope = x.new_full((x.shape[1],), self.settings.beta) if beta is None else beta
        assert isinstance(slope, Tensor)
        size = (x.shape[2], x.shape[3])
        shape = template(rows, columns, size, slope.clamp_min(0.1), floor=-1.0)
        category = assignment.category
        own = labels[:, None] == category  # (N, C)
        weight = self._weights(x.detach(), own, category, reduce)
        return filter_loss(x, shape, own, weight, assignment.peak, reduce)

    @torch.no_grad()
    def _weights(self, x: Tensor, own: Tensor, category: Tensor, reduce: Reduce) -> Tensor:
        """Weigh images by their maps' strength, own and other ones alike in sum, (N, C)."""
        peak = x.amax(dim=(2, 3))  # (N, C)
        count = reduce(peak.new_full((), float(len(peak))))
        strength = (peak / (reduce(peak.sum(dim=0)) / count + _EPS)).clamp(*_STRENGTH)
        strength = strength / (reduce(strength.sum(dim=0)) / count)
        frequency = self.frequency[category].clamp(0.01, 0.99)  # (C,)
        return strength * torch.where(own, 0.5 / frequency, 0.5 / (1 - frequency))

    def _information(self, x: Tensor, assignment: Assignment, reduce: Reduce) -> Tensor:
        learned = self.settings.filter_loss == "mi"
        scaled = (x if learned else x.detach()) / (assignment.peak + _EPS)[:, None, None]
        with torch.set_grad_enabled(learned):
            return mutual_information(scaled, _TAU, self.settings.beta, reduce=reduce).mean()

    def weighted(self, terms: dict[str, Tensor], progress: float) -> Tensor:
        """Return the loss at its weight, which grows from 0 over the ramp."""
        ramp = min(1.0, progress / self.settings.ramp) if self.settings.ramp else 1.0
        weight = self.settings.filter_weight * ramp
        if self.settings.filter_loss == "mi":
            return -weight * terms["mutual_information"]
        return weight * terms["filter_loss"]

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return none: a learned beta is the network's own."""
        return ()

    def undecayed(self, net: nn.Module) -> Iterable[nn.Parameter]:
        """Return none."""
        return ()

    def state_dict(self) -> dict[str, Any]:
        """Return the running categories and peaks."""
        return dict(self.assignments.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them in."""
        self.assignments.load_state_dict(state)

    def record(self) -> dict[str, Any]:
        """Return what was masked and trained for, and each unit's category."""
        return {
            "method": "icnn",
            "layers": list(self.masked),
            **self.settings.as_dict(),
            "categories": [a.category.tolist() for a in self.assignments],  # type: ignore[operator]
            **self._record,
        }

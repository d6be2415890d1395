"""What a method adds to the training loop: it listens to the network and returns loss terms."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from torch import Tensor, nn

from cnnlens.interpretable.cgl import Sum
from cnnlens.interpretable.concept_groups import ConceptGroups


class Method(Protocol):
    """An auxiliary loss; one per file, plugged into `train.Trainer`."""

    name: str

    def listening(self, net: nn.Module) -> AbstractContextManager[None]:
        """Keep what the losses need during forward passes of `net`."""
        ...

    def terms(self, net: nn.Module, labels: Tensor, total: Sum) -> dict[str, Tensor]:
        """Return the terms of the last forward pass, before weights.

        Parameters
        ----------
        net : torch.nn.Module
            That has just run.
        labels : torch.Tensor
            (N,) int64 categories, -1 for images of none.
        total : callable
            Adds up over processes, with gradient; the terms are the whole minibatch's.
        """
        ...

    def weighted(self, terms: dict[str, Tensor], progress: float) -> Tensor:
        """Return what is added to the task's loss, `progress` of the training done (0 to 1)."""
        ...

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return parameters of its own, outside the network."""
        ...

    def undecayed(self, net: nn.Module) -> Iterable[nn.Parameter]:
        """Return parameters that the optimizer must not decay."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs: numbers and tensors."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it in again."""
        ...

    def record(self) -> dict[str, Any]:
        """Return what ``new.pt`` says about the method under ``interpretable``."""
        ...


class Plain:
    """The same training without any method: the fair baseline."""

    name = "none"

    def __init__(self, record: dict[str, Any] | None = None) -> None:
        self._record = record or {}

    def listening(self, net: nn.Module) -> AbstractContextManager[None]:
        """Nothing is listened to."""
        return nullcontext()

    def terms(self, net: nn.Module, labels: Tensor, total: Sum) -> dict[str, Tensor]:
        """Return no terms."""
        return {}

    def weighted(self, terms: dict[str, Tensor], progress: float) -> Tensor:
        """Never called: there are no terms."""
        raise ValueError("the plain training has no terms")

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return none."""
        return ()

    def undecayed(self, net: nn.Module) -> Iterable[nn.Parameter]:
        """Return none."""
        return ()

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take nothing in."""

    def record(self) -> dict[str, Any]:
        """Return what was inserted, as that is part of the architecture."""
        return {"method": "none", "layers": [], **self._record}


class Grouped:
    """Concept groups as a method of the training loop."""

    name = "cgl"

    def __init__(self, groups: ConceptGroups, record: dict[str, Any] | None = None) -> None:
        self.groups, self._record = groups, record or {}

    def listening(self, net: nn.Module) -> AbstractContextManager[None]:
        """Keep pre-activations."""
        return self.groups.listening(net)

    def terms(self, net: nn.Module, labels: Tensor, total: Sum) -> dict[str, Tensor]:
        """Return ``group_loss, spatial_loss, block_norm``."""
        return self.groups.terms(net, total)

    def weighted(self, terms: dict[str, Tensor], progress: float) -> Tensor:
        """Weigh them as eq. 8."""
        return self.groups.weighted(terms)

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return P1 and P2."""
        return self.groups.parameters()

    def undecayed(self, net: nn.Module) -> Iterable[nn.Parameter]:
        """Return the weights that the block norm holds small."""
        return self.groups.undecayed(net)

    def state_dict(self) -> dict[str, Any]:
        """Return P1, P2 and the state of the pairs' generator."""
        return {"own": self.groups.state_dict(), "generator": self.groups.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them in."""
        self.groups.load_state_dict(state["own"])
        self.groups.generator.set_state(state["generator"])

    def record(self) -> dict[str, Any]:
        """Return the groups' record."""
        return {**self.groups.record(), **self._record}

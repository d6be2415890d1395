"""A random state of a training's own, which torch's global generators take while a step runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class RandomState:
    """What torch's global generators are while a step runs; otherwise they are the caller's."""

    def __init__(self, device: torch.device) -> None:
        self._devices = [device] if device.type == "cuda" else []
        self._states: list[Tensor] = []

    def seed(self, seed: int) -> None:
        """Begin anew."""
        with torch.random.fork_rng(self._devices):
            torch.default_generator.manual_seed(seed)
            for device in self._devices:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            self._states = self._current()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Within this block torch draws from this state, and it goes on."""
        with torch.random.fork_rng(self._devices):
            torch.set_rng_state(self._states[0])
            for device, state in zip(self._devices, self._states[1:], strict=True):
                torch.cuda.set_rng_state(state, device)
            yield
            self._states = self._current()

    def _current(self) -> list[Tensor]:
        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(d) for d in self._devices)]

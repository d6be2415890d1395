"""What was begun and not finished: the state of a long search, so that a killed run goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from cnnlens.files import atomic, to_json
from cnnlens.files.ledger import Item, Ledger


class Begun:
    """The state of the items that are being made together.

    A state is a mapping: "step", how many steps were done, and "rows", tensors (N, …) by name, a
    row per item. It counts for an item only where that is still to be made from the same things;
    a damaged file counts as none.

    Parameters
    ----------
    ledger : Ledger
        Where the items are listed once they are finished.
    items : sequence of Item
        What is still to be made.
    """

    def __init__(self, ledger: Ledger, items: Sequence[Item]) -> None:
        self.path = ledger.path.with_name(f".{ledger.path.stem}.unfinished.pt")
        self.begun: list[Item] = []  # those that an earlier run has begun
        self.step = 0  # how many steps of these were done
        self._rows: dict[str, Any] = {}
        if items and self.path.is_file() and not ledger.force:
            with suppress(Exception):  # whatever torch makes of a file cut short
                self.begun, self.step, self._rows = self._read(items)
        begun = {item.name for item in self.begun}
        self._rest = [item for item in items if item.name not in begun]

    def _read(self, items: Sequence[Item]) -> tuple[list[Item], int, dict[str, Any]]:
        import torch

        found = torch.load(self.path, map_location="cpu", weights_only=True)
        wanted = {_mark(item): item for item in items}
        rows = [row for row, mark in enumerate(found["items"]) if mark in wanted]
        state = {name: values[rows] for name, values in found["rows"].items()}
        return [wanted[found["items"][row]] for row in rows], int(found["step"]), state

    def batches(self, size: int) -> Iterator[tuple[list[Item], dict[str, Any] | None]]:
        """Yield what is made together: first what was begun, with its state, then the rest."""
        for start in range(0, len(self.begun), size):
            part = slice(start, start + size)
            rows = {name: values[part] for name, values in self._rows.items()}
            yield self.begun[part], {"step": self.step, "rows": rows}
        for start in range(0, len(self._rest), size):
            yield self._rest[start : start + size], None

    def keep(self, items: Sequence[Item], state: Mapping[str, Any]) -> None:
        """Keep how far the items are, in the place of what was kept before."""
        import torch

        with atomic(self.path) as temporary, temporary.open("wb") as file:
            torch.save({**state, "items": [_mark(item) for item in items]}, file)

    def remove(self) -> None:
        """Forget it: they are finished."""
        self.path.unlink(missing_ok=True)


def _mark(item: Item) -> str:
    """Equal marks, equal items, made from equal things."""
    return hashlib.sha256(to_json([item.name, item.made_from]).encode()).hexdigest()

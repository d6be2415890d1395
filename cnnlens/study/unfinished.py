"""What a long computation over several items has reached: kept in a hidden file beside their
ledger, so that a run that was stopped in the middle goes on there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from cnnlens.files import atomic, to_json
from cnnlens.study.ledger import Item, Ledger


class Unfinished:
    """The state of the items that are being made together.

    A state is a mapping: "step", how many steps were done, and "rows", tensors (N, …) by name, a
    row per item. It counts for an item only where that is still to be made from the same things.

    Parameters
    ----------
    ledger : Ledger
        Where the items are listed once they are finished.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._force = ledger.force
        self.path = ledger.path.with_name(f".{ledger.path.stem}.unfinished.pt")

    def read(self, items: Sequence[Item]) -> tuple[list[Item], dict[str, Any] | None]:
        """Find those of the items that were begun, and their rows; a damaged file counts as none.

        Returns
        -------
        list of Item, dict or None
            The items in the order of the rows; the state, None where none was begun.
        """
        if self._force or not self.path.is_file():
            return [], None
        import torch

        try:
            found = torch.load(self.path, map_location="cpu", weights_only=True)
            wanted = {_mark(item): item for item in items}
            rows = [row for row, mark in enumerate(found["items"]) if mark in wanted]
            begun = [wanted[found["items"][row]] for row in rows]
            state = {name: values[rows] for name, values in found["rows"].items()}
            step = int(found["step"])
        except Exception:  # whatever torch makes of a file cut short
            return [], None
        return begun, {"step": step, "rows": state} if begun else None

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

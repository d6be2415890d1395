"""Which networks the results in a workspace are of, where its own ``workspace.json`` is lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.files import read_json
from cnnlens.files.ledger import MADE_FROM

_SEVERAL = ("evolve",)  # whose results are of several networks on purpose


def origins(folders: Iterable[Path]) -> set[str]:
    """Fingerprints of the networks that the results in some folders say that they were made from.

    What is damaged, or says nothing, is left out.
    """
    found: set[str] = set()
    for folder in folders:
        if folder.name not in _SEVERAL:
            for file in folder.rglob("[!.]*.json"):
                with suppress(CnnlensError):
                    found.update(_named(read_json(file)))
            found.update(_of_stores(folder))
    return found


def _named(value: Any) -> Iterator[str]:
    """Find networks' fingerprints in a document, at any depth."""
    if isinstance(value, list):
        for one in value:
            yield from _named(one)
    if isinstance(value, dict):
        made_from = value.get(MADE_FROM)
        if isinstance(made_from, dict) and isinstance(model := made_from.get("model"), str):
            yield model
        for one in value.values():
            yield from _named(one)


def _of_stores(folder: Path) -> Iterator[str]:
    from cnnlens.activations.store import Store

    for file in folder.glob("*/[!.]*.h5") if folder.name == "activations" else ():
        with suppress(CnnlensError), Store(file) as store:
            yield store.key.model

"""What results say that they were made from, read from whatever a workspace holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.files import read_json
from cnnlens.files.ledger import MADE_FROM
from cnnlens.measure.compared import data_name
from cnnlens.measure.comparison import MARKS
from cnnlens.report.contents import last_part


@dataclass(frozen=True)
class Result:
    """What some results were made from: whose they are, and the data by its name."""

    command: str
    layer: str
    data: str
    made_from: Mapping[str, Any]

    @property
    def what(self) -> str:
        """Which results, for people."""
        return f"{self.command} of {self.layer}" if self.layer else self.command


def results(workspace: Path) -> Iterator[Result]:
    """List results that say what data they were made on, and in which state that was."""
    for file in sorted(
        [*workspace.glob("*/*/summary.json"), *workspace.glob("label/*/*/summary.json")]
    ):
        command, layer, *part = file.parent.relative_to(workspace).parts
        if layer.startswith(".") or (command == "label" and not part):
            continue  # what a killed run left; a copy of the latest names
        for document in made(file):
            yield from _of(command, layer, document)
    for file in sorted(workspace.glob("deconv/[!.]*/deconv.json")):
        for entry in entries_of(file):
            yield from _of(
                "deconv", file.parent.name, {"data": entry[MADE_FROM].get("of"), **entry}
            )
    for file in sorted(workspace.glob("visualize/[!.]*/visualize.json")):
        for entry in entries_of(file):
            yield from _of("visualize", file.parent.name, {"data": entry.get("best_of"), **entry})


def made(file: Path) -> Iterator[dict[str, Any]]:
    """Give a summary, or its parts, that say what they were made from."""
    with suppress(CnnlensError):
        document = read_json(file)
        parts = [document, *document.values()] if isinstance(document, dict) else []
        for one in parts:
            if isinstance(one, dict) and isinstance(one.get(MADE_FROM), dict):
                yield one


def entries_of(file: Path) -> list[dict[str, Any]]:
    """Give the pictures of a list that say what they were made from."""
    with suppress(CnnlensError):
        document = read_json(file)
        found = document.get("pictures") if isinstance(document, dict) else None
        if isinstance(found, list):
            entries = (one for one in found if isinstance(one, dict))
            return [one for one in entries if isinstance(one.get(MADE_FROM), dict)]
    return []


def _of(command: str, layer: str, document: Mapping[str, Any]) -> Iterator[Result]:
    made_from, data = document[MADE_FROM], document.get("data")
    name = last_part(data_name(document))
    if isinstance(data, Mapping) and data.get("fingerprint"):
        made_from = {MARKS[0]: data["fingerprint"]}
    if name and made_from.get(MARKS[0]):
        yield Result(command, layer, name, made_from)
    for method, of in (document.get("methods") or {}).items() if command == "exam" else ():
        examined = made_from["methods"][method]
        yield Result("exam", layer, last_part(data_name(of)), {MARKS[0]: examined.get("data")})

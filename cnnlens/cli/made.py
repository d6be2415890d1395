"""What a command has made so far: its pictures and the JSON beside them, so that it can resume."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnlens.errors import CnnlensError
from cnnlens.files import read_json, write_json


class Made:
    """The pictures of one folder, as its JSON lists them.

    Pictures of earlier runs stay listed as long as their files are there; one that is made anew
    takes the old one's place. After every picture the JSON is whole.

    Parameters
    ----------
    path : pathlib.Path
        ``deconv.json``, ``cam.json``: beside the pictures.
    force : bool
        Make everything anew, and pass over a damaged JSON.

    Raises
    ------
    CnnlensError
        When the JSON is damaged.
    """

    def __init__(self, path: Path, force: bool = False) -> None:
        self.path = path
        self._force = force
        self._known: dict[str, dict[str, Any]] = {}
        if path.exists():
            try:
                self._known = self._read()
            except CnnlensError:
                if not force:
                    raise

    def _read(self) -> dict[str, dict[str, Any]]:
        document = read_json(self.path)
        pictures = document.get("pictures") if isinstance(document, dict) else None
        if not isinstance(pictures, list) or not all(
            isinstance(entry, dict) and isinstance(entry.get("file"), str) for entry in pictures
        ):
            raise CnnlensError(
                f"{self.path} is damaged: it lists no pictures", "--force makes it anew"
            )
        return {e["file"]: e for e in pictures if (self.path.parent / e["file"]).is_file()}

    @property
    def entries(self) -> list[dict[str, Any]]:
        """All pictures, in the order they were first made."""
        return list(self._known.values())

    def finished(self, file: str, made_from: Mapping[str, Any], *others: str) -> bool:
        """Whether a picture, and the files beside it, were made from just this."""
        entry = self._known.get(file)
        there = all((self.path.parent / other).is_file() for other in others)
        return not self._force and entry is not None and there and entry["made_from"] == made_from

    def add(self, entry: dict[str, Any], summary: Mapping[str, Any]) -> None:
        """List a picture that is there now."""
        self._known[entry["file"]] = entry
        self.write(summary)

    def write(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Write the JSON: `summary`, then the pictures."""
        document = {**summary, "pictures": self.entries}
        write_json(self.path, document)
        return document

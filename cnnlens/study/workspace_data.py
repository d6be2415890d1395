"""What a workspace knows of the images that were looked at in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.data.paths import is_data
from cnnlens.errors import UsageError
from cnnlens.files import free_name

if TYPE_CHECKING:
    from cnnlens.data.dataset import ImageSet


class WorkspaceData:
    """The data sets of a workspace: entries of its document, and images in memory."""

    path: Path
    document: dict[str, Any]
    _memory: dict[str, ImageSet]

    def use_data(self, images: ImageSet, named: bool = True, default: bool = True) -> None:
        """Remember `images`; where they were named, they become the default of their kind.

        With `default` False they are the last choice for other commands, unless known before, and
        are noted to be strangers to the network's classes (see `is_strange`).
        """
        mine = self._entry(images)
        if mine and is_entry_of(mine, images) and not (named and default):
            return
        known = [entry for entry in self.document["data"] if entry is not mine]
        taken = [entry["name"] for entry in known]
        entry = {
            "path": images.place,
            "name": mine.get("name") or free_name(images.name, taken.__contains__),
            "kind": images.kind,
            "images": len(images.paths),
            "fingerprint": images.fingerprint,
        }
        if not default and (not mine or is_strange(mine)):
            entry["strange"] = True
        if images.in_memory:
            entry["in_memory"] = True
        if images.split:
            entry["split"] = images.split
        if images.ranges:
            entry["range"] = images.ranges.as_dict()
        self.document["data"] = [*known, entry] if default else [entry, *known]

    def _entry(self, images: ImageSet) -> dict[str, Any]:
        """Find what is known of a data set, where it is now or where it was before it was moved."""
        known = self.document["data"]
        mine = (e for is_it in (is_entry_of, _is_moved) for e in known if is_it(e, images))
        return next(mine, {})

    def has_namesake(self, images: ImageSet) -> bool:
        """Whether other data of the same name have been used here."""
        mine, alike = self._entry(images), re.compile(rf"{re.escape(images.name)}(-\d+)?")
        return any(e is not mine and alike.fullmatch(e["name"]) for e in self.document["data"])

    def knows_data(self, images: ImageSet) -> bool:
        """Whether `images` have been used here."""
        return bool(self._entry(images))

    def data_entry(self, kinds: tuple[str, ...]) -> dict[str, Any] | None:
        """Return what is known of the last used data of one of these kinds, if there is some."""
        fitting = [e for e in self.document["data"] if e["kind"] in kinds]
        return fitting[-1] if fitting else None

    def stores(self, images: ImageSet) -> Path:
        """Folder of the activation stores of a data set in use, or of a part of one."""
        return self.path / "activations" / self._entry(images).get("name", images.name)

    def keep_in_memory(self, images: ImageSet) -> None:
        """Remember data that has no folder, for as long as this process lives."""
        if images.in_memory:
            self._memory[images.place] = images

    def in_memory(self, entry: Mapping[str, Any]) -> ImageSet | None:
        """Return data that was kept in memory, by its entry; None where it lies elsewhere.

        Raises
        ------
        UsageError
            When it was in memory of another process.
        """
        if not entry.get("in_memory"):
            return None
        if not self.holds(entry):
            raise UsageError(
                f"the images {entry['name']} were in memory of another process, which kept no file "
                "of them",
                "give them again, in Python, with data=; or name a folder with -d DIR",
            )
        return self._memory[entry["path"]]

    def holds(self, entry: Mapping[str, Any]) -> bool:
        """Whether data of an entry is in memory here."""
        return bool(entry.get("in_memory")) and entry["path"] in self._memory

    def called(self, name: str) -> dict[str, Any] | None:
        """Find what is known of data in memory by its name, where no folder is called so."""
        known = (e for e in self.document["data"] if e.get("in_memory") and e["path"] == name)
        return None if Path(name).exists() else next(known, None)


def is_entry_of(entry: Mapping[str, Any], images: ImageSet) -> bool:
    """Whether an entry of a workspace's data is just these images, read just so.

    The splits of a folder are data sets of their own; so are its files with another range.
    """
    same = entry["path"] == images.place and bool(entry.get("in_memory")) == images.in_memory
    return same and _is_read_alike(entry, images)


def is_strange(entry: Mapping[str, Any]) -> bool:
    """Whether nobody has used an entry's images but as strangers to the network's classes."""
    return bool(entry.get("strange"))


def _is_read_alike(entry: Mapping[str, Any], images: ImageSet) -> bool:
    known = entry.get("split"), entry.get("range", {}).get("all")
    return known == (images.split, images.ranges.as_dict().get("all"))


def _is_moved(entry: Mapping[str, Any], images: ImageSet) -> bool:
    """Whether these are an entry's images, which are no longer where they were."""
    about = ("kind", images.kind), ("images", len(images.paths))
    return (
        all(entry.get(name) == value for name, value in about)
        and _is_read_alike(entry, images)
        and entry.get("fingerprint") == images.fingerprint
        and not (entry.get("in_memory") or images.in_memory or is_data(entry["path"]))
    )

"""Pictures as they were when a result was handed out: a later call may write others under their
names.
"""

from __future__ import annotations

import io
from pathlib import Path
from weakref import WeakValueDictionary

from PIL import Image

from cnnlens.errors import CnnlensError
from cnnlens.files import Mark, marked
from cnnlens.report.sheet import opened

ROOM = 64 * 2**20  # bytes of pictures that a result keeps in memory


class Held:
    """A file's picture as it is now; its bytes too, where there is room for them."""

    def __init__(self, path: Path, mark: Mark | None, content: bytes | None) -> None:
        self.path, self._mark, self._content = path, mark, content

    def opened(self) -> Image.Image:
        """Open it as RGB.

        Raises
        ------
        CnnlensError
            When there was no room for it, and the file is another one by now, or gone.
        """
        if self._content is not None:
            with Image.open(io.BytesIO(self._content)) as found:
                return found.convert("RGB")
        if self._mark is None or marked(self.path) != self._mark:
            raise CnnlensError(
                f"{self.path} is no longer the picture of this result: another call has made it "
                "anew, or removed it",
                "call the method again, in a workspace of its own where both are to be kept",
            )
        return opened(self.path)


class Holder:
    """Holds pictures as long as there is room; those that other results hold take none."""

    def __init__(self) -> None:
        self._left = ROOM

    def hold(self, path: Path) -> Held:
        """Keep a picture as it is now."""
        mark = marked(path)
        if mark is None:
            return Held(path, None, None)
        if (known := _held.get((path, mark))) is not None:
            return known
        content = None
        if mark[-1] <= self._left:
            self._left -= mark[-1]
            content = path.read_bytes()
        _held[path, mark] = held = Held(path, mark, content)
        return held


# by what the file was: results of one call, made again, have their pictures in common
_held: WeakValueDictionary[tuple[Path, Mark], Held] = WeakValueDictionary()

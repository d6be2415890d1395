"""Where the images, and the pictures of segments, that COCO's files name lie below a folder."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from cnnlens.data.imports.source import Unusable, pictures, split_of
from cnnlens.errors import CnnlensError


class Places:
    """Where images are below a folder, by name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths: dict[str, list[str]] = defaultdict(list)
        try:
            found = pictures(root)
        except CnnlensError as error:
            raise CnnlensError(
                error.message, "put or link the folder of images (val2017, images) beside them"
            ) from error
        for path in found:
            self.paths[path.rpartition("/")[2]].append(path)

    def find(self, wanted: str, annotations: Path) -> str:
        """Find the one image that an annotation file means; raise `Unusable` where none is."""
        paths = self.paths.get(wanted.rpartition("/")[2], [])
        paths = [p for p in paths if f"/{p}".endswith(f"/{wanted.lstrip('./')}")] or paths
        if len(paths) > 1:
            paths = self._meant(paths, annotations) or paths
        if len(paths) != 1:
            raise Unusable(f"it may be {' or '.join(paths[:3])}" if paths else "missing")
        return paths[0]

    def find_map(self, wanted: str, annotations: Path) -> str:
        """Find the picture of an image's segments, in the folder that bears the file's name."""
        paths = self.paths.get(wanted.rpartition("/")[2], [])
        paths = [path for path in paths if annotations.stem in path.split("/")[:-1]] or paths
        if len(paths) != 1:
            raise Unusable(f"its segments are in {wanted}, which is missing or there twice")
        return paths[0]

    def _meant(self, paths: list[str], annotations: Path) -> list[str]:
        """Of several, those beside the annotations, or in a folder that bears their name."""
        below = annotations.parent.relative_to(self.root).as_posix()
        beside = [path for path in paths if path.startswith(f"{below}/")]
        token = annotations.stem.rpartition("_")[2]
        named = [path for path in paths if token in path.split("/")[:-1]]
        split = split_of(annotations.stem)
        of_split = [path for path in paths if split and split_of(path) == split]
        return next((some for some in (beside, named, of_split) if len(some) == 1), [])

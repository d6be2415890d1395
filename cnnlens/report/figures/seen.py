"""Images as the network saw them, each kept once, however many units show it.

``WORKSPACE/images/<mark of its pixels>.webp``. What a page shows of one, the receptive field of a
peak or all of it, is cut out where it is shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from cnnlens.data.dataset import ImageSet
from cnnlens.files import atomic, make_folder
from cnnlens.model.preprocess import Preprocess
from cnnlens.report.figures import plane_seen

LONGEST = 256  # pixels: larger images are kept at this


def write_seen(
    folder: Path,
    images: ImageSet,
    positions: Sequence[int],
    preprocess: Preprocess,
    workers: int = 4,
) -> Iterator[tuple[int, str]]:
    """Write images at some positions of the data into a folder; those that are there are left.

    Yields
    ------
    (int, str)
        Position and file name.
    """
    make_folder(folder)

    def write(position: int) -> tuple[int, str]:
        seen = plane_seen(images, position, preprocess)
        path = folder / f"{hashlib.sha256(seen.tobytes()).hexdigest()[:16]}.webp"
        if not path.exists():
            picture = Image.fromarray(seen)
            picture.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
            with atomic(path) as temporary:
                picture.save(temporary, "WEBP", quality=80, method=2)
        return position, path.name

    with ThreadPoolExecutor(max(1, workers)) as pool:
        yield from pool.map(write, positions)

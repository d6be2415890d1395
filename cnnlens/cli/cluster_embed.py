"""The station of ``cluster`` that lays images out by UMAP, from the layer and from raw pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cnnlens.cli.clustering import Job, once

if TYPE_CHECKING:
    import numpy as np

    from cnnlens.cluster.embed import Layout

FILES = ("umap.csv", "umap_3d.csv", "umap_pixels.csv", "umap_pixels_3d.csv")
PICTURES = ("umap.png", "umap.webp")


def embed(job: Job) -> dict[str, Any]:
    """Lay the images out, write the places and the pictures, and return the separation."""
    return once(job, "embed", job.made_from("neighbours", "seed"), lambda: _make(job))


def _make(job: Job) -> dict[str, Any]:
    from cnnlens.cluster.embed import FEWEST, flat_vectors, lay_out, pixel_size
    from cnnlens.errors import CnnlensError

    if job.store.shape[0] < FEWEST:
        raise CnnlensError(
            f"{job.store.shape[0]} images are too few for a layout",
            f"{FEWEST} or more are needed; --only categories or filters works without",
        )
    settings = job.settings
    with job.screen.progress() as bars:
        stages = [0]

        def show(stage: str) -> None:
            bars.show(f"{job.layer.name}: embedding", min(stages[0], 10), 10, note=stage)
            stages[0] += 1

        show("UMAP compiles itself")
        vectors, projected = flat_vectors(job.store, settings.seed)
        layer = lay_out(vectors, job.groups, settings.neighbours, settings.seed, show)
        del vectors
        raw = lay_out(_pixels(job), job.groups, settings.neighbours, settings.seed, show)
        _write(job, layer, raw)
        _draw(job, layer, raw)
    return {
        "images": job.store.shape[0],
        "neighbours": layer.neighbours,
        "projected": projected,
        "layer": layer.as_dict(),
        "pixels": raw.as_dict(),
        "pixels_size": list(pixel_size(job.model.preprocess.size)),
        "files": [*FILES, *PICTURES],
    }


def _each(job: Job, read: Callable[[int], np.ndarray]) -> list[np.ndarray]:
    """Read every image of the store once, with a few threads."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max(1, job.run.workers)) as pool:
        return list(pool.map(lambda p: read(int(p)), job.store.positions))


def _pixels(job: Job) -> np.ndarray:
    """Raw pixels (N, h·w·c) float32 in [0, 1] of the images as the network sees them."""
    import numpy as np

    from cnnlens.cluster.embed import pixel_vector

    preprocess = job.model.preprocess

    def read(position: int) -> np.ndarray:
        image = job.images.load(position, "L" if preprocess.channels == 1 else "RGB")
        return pixel_vector(preprocess.pixels(image, job.images.aligned))

    return np.stack(_each(job, read))


def _write(job: Job, layer: Layout, raw: Layout) -> None:
    from cnnlens.files import write_csv

    images = job.store.images
    categories = job.store.categories or [""] * len(images)
    places = (layer.flat, layer.deep, raw.flat, raw.deep)
    for file, place in zip(FILES, places, strict=True):
        header = ("image", "category", *"xyz"[: place.shape[1]])
        rows = zip(images, categories, place.tolist(), strict=True)
        write_csv(job.folder / file, header, ([i, c, *at] for i, c, at in rows))


def _draw(job: Job, layer: Layout, raw: Layout) -> None:
    from cnnlens.files import atomic
    from cnnlens.report.figures import save_figure
    from cnnlens.report.figures.embedding import MOST, SIDE, draw_layouts, sprite
    from cnnlens.report.figures.strips import as_seen

    figure = draw_layouts(layer, raw, job.groups, job.layer.name)
    save_figure(figure, job.folder / "umap.png")
    kept = job.store.positions[:MOST]
    small = [as_seen(job.images, int(p), job.model.preprocess, SIDE) for p in kept]
    with atomic(job.folder / "umap.webp") as temporary:
        sprite(small).save(temporary, "WEBP", quality=65, method=2)

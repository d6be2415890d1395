"""The station of ``cluster`` that builds the tree of categories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnnlens.cli.clustering import Job, once

if TYPE_CHECKING:
    from pathlib import Path

    from cnnlens.cluster.categories import CategoryTree
    from cnnlens.cluster.vectors import MapSource

FILES = ("categories.json", "categories.nwk", "mst.csv", "distances.csv")
PICTURES = ("dendrogram.png", "mst.png", "distances.png")


def categories(job: Job) -> dict[str, Any]:
    """Build the tree, write it in all its forms, and return its summary."""
    made_from = job.made_from("bootstrap", "noise", "seed")
    return once(job, "categories", made_from, lambda: _make(job))


def _make(job: Job) -> dict[str, Any]:
    from cnnlens.cluster.categories import category_tree
    from cnnlens.cluster.noise import add_noise

    source: MapSource = job.store
    groups = job.needed_groups()
    settings = job.settings
    if settings.noise:
        source, groups = add_noise(
            source, groups, job.model, job.layer, settings.seed, job.run.batch_size
        )
    name = f"{job.layer.name}: tree of categories"
    with job.screen.progress() as bars:
        bars.show(name, 0, settings.bootstrap + 1)
        tree = category_tree(
            source,
            groups,
            resamples=settings.bootstrap,
            seed=settings.seed,
            progress=lambda done, total: bars.show(name, done, total),
        )
        bars.show("drawing", 0, len(PICTURES))
        _write(job.folder, tree)
    for excluded in tree.excluded[:5]:
        job.screen.note(f"left out {excluded}: the layer answers nothing to its images")
    return {**tree.as_dict(), "files": [*FILES, *PICTURES]}


def _write(folder: Path, tree: CategoryTree) -> None:
    from cnnlens.files import write_csv, write_text
    from cnnlens.report.category_figures import (
        dendrogram,
        heat_map,
        save_figure,
        spanning_tree_figure,
    )
    from cnnlens.report.trees import write_tree

    pairs = tree.merges[:, :2].astype(int)
    write_tree(folder / "categories.json", pairs, tree.leaf_entries(), tree.node_entries())
    write_text(folder / "categories.nwk", tree.newick())
    edges = [(tree.names[a], tree.names[b], d) for a, b, d in tree.edges]
    write_csv(folder / "mst.csv", ("a", "b", "distance"), edges)
    names = [tree.names[i] for i in tree.order]
    rows = tree.distances[tree.order][:, tree.order].tolist()
    write_csv(
        folder / "distances.csv",
        ("category", *names),
        ([name, *row] for name, row in zip(names, rows, strict=True)),
    )
    for file, draw in zip(PICTURES, (dendrogram, spanning_tree_figure, heat_map), strict=True):
        save_figure(draw(tree), folder / file)

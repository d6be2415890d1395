"""The station of ``cluster`` that builds a tree of filters for every category."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.cli.clustering import Job, once

if TYPE_CHECKING:
    import numpy as np

    from cnnlens.cluster.filters import FilterTree
    from cnnlens.cluster.vectors import CategoryMaps


def filters(job: Job) -> dict[str, Any]:
    """Build every category's tree, write it in all its forms, and return their summary."""
    return once(job, "filters", _made_from(job), lambda: _make(job))


def _made_from(job: Job) -> dict[str, Any]:
    from cnnlens.report.dissect_files import detected

    labels = detected(job.space.path, job.layer.folder)
    return {**job.made_from("rule"), "labels": {str(unit): text for unit, text in labels.items()}}


def _make(job: Job) -> dict[str, Any]:
    from cnnlens.cluster.filters import filter_trees
    from cnnlens.report.names import file_names

    groups = job.needed_groups()
    files = file_names(groups.names)
    mark = _made_from(job)
    entries = {n: entry for n in groups.names if (entry := _before(job, files[n], mark))}
    missing = [name for name in groups.names if name not in entries]
    title = f"{job.layer.name}: filters of categories"
    with job.screen.progress() as bars:
        bars.show(title, len(entries), len(groups.names))
        for given, tree in filter_trees(job.store, groups, missing, job.settings.rule):
            bars.show(title, len(entries), len(groups.names), note=given.name)
            entries[given.name] = _keep(job, files[given.name], given, tree, mark)
        bars.show(title, len(groups.names), len(groups.names))
    found = [entries[name] for name in groups.names]
    for entry in found:
        if entry["excluded"]:
            job.screen.note(
                f"{entry['category']}: left out {len(entry['excluded'])} images to which the layer "
                "answers nothing"
            )
    return {
        "categories": found,
        "files": [f"filters/{e['file']}.json" for e in found if e["leaves"]],
    }


def _before(job: Job, file: str, mark: dict[str, Any]) -> dict[str, Any] | None:
    """What an interrupted run found about a category; None where it did not finish it."""
    from cnnlens.files import read_json

    done = job.folder / "filters" / f"{file}.done.json"
    before = read_json(done) if done.is_file() and not job.force else None
    if isinstance(before, dict) and before.get("made_from") == mark:
        return dict(before["entry"])
    return None


def _keep(
    job: Job, file: str, given: CategoryMaps, tree: FilterTree, mark: dict[str, Any]
) -> dict[str, Any]:
    """Write one category's tree in all its forms; return its summary."""
    from cnnlens.files import write_json, write_text
    from cnnlens.report.dissect_files import detected
    from cnnlens.report.trees import write_tree

    images, folder = [job.store.images[row] for row in given.rows], job.folder / "filters"
    if len(tree.leaves):
        nodes = tree.node_entries(detected(job.space.path, job.layer.folder))
        leaves = tree.leaf_entries(images, given.rows)
        write_tree(folder / f"{file}.json", tree.pairs, leaves, nodes)
        write_text(folder / f"{file}.nwk", tree.newick(images))
        _draw(job, file, given.name, tree, given.maps, given.rows)
    entry = {"category": given.name, "file": file, "images": len(images), **tree.as_dict(images)}
    write_json(folder / f"{file}.done.json", {"made_from": mark, "entry": entry})
    return entry


def _draw(
    job: Job, file: str, name: str, tree: FilterTree, maps: np.ndarray, rows: np.ndarray
) -> None:
    from cnnlens.files import atomic
    from cnnlens.report.dissect_files import detected
    from cnnlens.report.figures.filters import TreePicture, draw_tree, sprite
    from cnnlens.report.figures.strips import as_seen

    positions = job.store.positions[rows[tree.leaves]]
    seen: dict[int, np.ndarray] = {}

    def thumbnail(leaf: int) -> np.ndarray:
        if leaf not in seen:
            seen[leaf] = as_seen(job.images, int(positions[leaf]), job.model.preprocess, 64)
        return seen[leaf]

    peaks = maps[tree.leaves].max(axis=(2, 3))  # (n, C)
    picture = TreePicture(
        f"{name}: filters of {job.layer.name}", tree, peaks, thumbnail,
        detected(job.space.path, job.layer.folder),
    )  # fmt: skip
    folder: Path = job.folder / "filters"
    with atomic(folder / f"{file}.png") as temporary:
        draw_tree(picture).save(temporary, "PNG", optimize=True)
    with atomic(folder / f"{file}.webp") as temporary:
        sprite(len(tree.leaves), thumbnail).save(temporary, "WEBP", quality=70, method=2)

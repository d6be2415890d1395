"""The station of ``cluster`` that builds a tree of filters for every category."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnlens.cli.clustering import Job, once

if TYPE_CHECKING:
    import numpy as np

    from cnnlens.cluster.filters import FilterTree


def filters(job: Job) -> dict[str, Any]:
    """Build every category's tree, write it in all its forms, and return their summary."""
    return once(job, "filters", _made_from(job), lambda: _make(job))


def _made_from(job: Job) -> dict[str, Any]:
    from cnnlens.report.dissect_files import detected

    labels = detected(job.space.path, job.layer.folder)
    return {**job.made_from("rule"), "labels": {str(unit): text for unit, text in labels.items()}}


def _make(job: Job) -> dict[str, Any]:
    from cnnlens.report.names import file_names

    groups = job.needed_groups()
    files = file_names(groups.names)
    mark = _made_from(job)
    found = []
    with job.screen.progress() as bars:
        for number, name in enumerate(groups.names):
            title = f"{job.layer.name}: filters of categories"
            bars.show(title, number, len(groups.names), note=name)
            found.append(_category(job, name, files[name], mark))
        bars.show(title, len(groups.names), len(groups.names))
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


def _category(job: Job, name: str, file: str, mark: dict[str, Any]) -> dict[str, Any]:
    """Make one category's tree, unless an interrupted run left it finished."""
    from cnnlens.files import read_json, write_json

    done = job.folder / "filters" / f"{file}.done.json"
    if done.is_file() and not job.force:
        before = read_json(done)
        if isinstance(before, dict) and before.get("made_from") == mark:
            return dict(before["entry"])
    entry = _grown(job, name, file)
    write_json(done, {"made_from": mark, "entry": entry})
    return entry


def _grown(job: Job, name: str, file: str) -> dict[str, Any]:
    from cnnlens.cluster.filters import filter_tree
    from cnnlens.cluster.vectors import read_vectors

    rows = job.needed_groups().rows(name)
    maps = read_vectors(job.store, rows)  # (n, C, H, W)
    images = job.store.images
    entry = {"category": name, "file": file, "images": len(rows)}
    if not maps.any():
        return {**entry, "leaves": 0, "merges": 0, "excluded": [images[r] for r in rows]}
    tree = filter_tree(maps, job.settings.rule)
    paths = [images[rows[leaf]] for leaf in tree.leaves]
    _write(job, file, tree, paths, rows)
    _draw(job, file, name, tree, maps, rows)
    return {
        **entry,
        "leaves": len(tree.leaves),
        "merges": len(tree.pairs),
        "excluded": [images[rows[i]] for i in tree.excluded],
        "top_filters": _top_filters(tree),
    }


def _top_filters(tree: FilterTree, most: int = 5) -> list[int]:
    """Critical filters of the last merges: those that decide first on the way down."""
    found = [int(f) for f in tree.critical[::-1] if f >= 0]
    return list(dict.fromkeys(found))[:most]


def _write(job: Job, file: str, tree: FilterTree, paths: list[str], rows: np.ndarray) -> None:
    from cnnlens.cluster.tree import newick
    from cnnlens.files import write_text
    from cnnlens.report.dissect_files import detected
    from cnnlens.report.trees import write_tree

    labels = detected(job.space.path, job.layer.folder)
    nodes = [
        {
            "distance": float(distance),
            "critical_filter": int(f) if f >= 0 else None,
            "filters": int(count),
            "images": int(size),
            **({"detects": labels[int(f)]} if int(f) in labels else {}),
        }
        for distance, f, count, size in zip(
            tree.distances, tree.critical, tree.reachable, tree.sizes, strict=True
        )
    ]
    folder = job.folder / "filters"
    leaves = [{"image": p, "row": int(r)} for p, r in zip(paths, rows[tree.leaves], strict=True)]
    write_tree(folder / f"{file}.json", tree.pairs, leaves, nodes)
    marks = [f"filter {f}" if f >= 0 else "" for f in tree.critical]
    write_text(folder / f"{file}.nwk", newick(tree.pairs, paths, tree.distances.tolist(), marks))


def _draw(
    job: Job, file: str, name: str, tree: FilterTree, maps: np.ndarray, rows: np.ndarray
) -> None:
    from cnnlens.files import atomic
    from cnnlens.report.dissect_files import detected
    from cnnlens.report.filter_figures import TreePicture, draw_tree, sprite
    from cnnlens.report.strips import as_seen

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

from __future__ import annotations

import csv
import io
import json
import os
from functools import cache
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from cnnlens.files.tables import write_rows
from cnnlens.measure.exam_scores import SCORES
from cnnlens.report.figures.dissect import lit

CATEGORIES = ["object", "part", "scene", "texture", "color"]
LABELS = {
    "object": ["dog", "cat", "car", "tree", "person", "bird", "boat", "sky", "grass", "water"],
    "part": ["head", "wheel", "leg", "window", "door frame"],
    "scene": ["street-s", "bedroom-s", "coast-s"],
    "texture": ["striped", "dotted", "chequered", "lined"],
    "color": ["red-c", "green-c", "blue-c"],
}
WHEN = 1_750_000_000  # 2025-06-15 15:06 UTC


def strip(images: list[np.ndarray], masks: list[np.ndarray]) -> Image.Image:
    """Images side by side, each lit where its mask is."""
    cells = [lit(image, mask) for image, mask in zip(images, masks, strict=True)]
    return Image.fromarray(np.concatenate(cells, axis=1))


def concept_list(labels: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(label, category) for category in labels for label in labels[category]]


def make_layer(
    folder: Path,
    units: int,
    seed: int,
    labels: dict[str, list[str]] = LABELS,
    picture_bytes: int = 0,
    images: int = 9,
) -> None:
    """Write the files of one dissected layer as the contract has them."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    concepts = concept_list(labels)
    iou = (rng.gamma(0.6, 0.008, (units, len(concepts)))).astype(np.float32)
    best = rng.integers(0, len(concepts), units)
    iou[np.arange(units), best] += rng.gamma(1.2, 0.03, units).astype(np.float32)
    iou[units - 1] = 0  # a dead unit
    _write_units(folder, iou, concepts, labels, rng)
    _write_concepts(folder, iou, concepts, rng)
    with h5py.File(folder / "scores.h5", "w") as file:
        file["iou"], file["unit"] = iou, np.arange(units)
        file["concept"] = [f"{category}:{label}" for label, category in concepts]
    _write_summary(folder, iou, concepts, labels)
    _write_pictures(folder, units, images, picture_bytes)
    counts = (1e5 * np.exp(-np.arange(64) / rng.uniform(2, 9, (units, 1)))).astype(np.int64)
    counts[units - 1] = 0
    counts[units - 1, 0] = 10_000
    with h5py.File(folder / "distributions.h5", "w") as file:
        file["histogram"] = counts
        file["edges"] = np.tile(np.linspace(0, 12, 65, dtype=np.float32), (units, 1))
    os.utime(folder / "summary.json", (WHEN, WHEN))


def _write_units(folder, iou, concepts, labels, rng) -> None:
    category_of = np.array([category for _, category in concepts])
    header = ["unit", "threshold", "label", "category", "iou", "is_detector"]
    header += [f"{name}_{what}" for name in labels for what in ("label", "iou")] + ["p_value"]
    with (folder / "units.csv").open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(header)
        for unit, row in enumerate(iou.astype(np.float64)):
            best = int(row.argmax())
            label, category = concepts[best] if row[best] else ("", "")
            dead = unit >= len(iou) - 2
            cells = [unit, 0.0 if dead else float(rng.uniform(2, 5)), label, category]
            cells += [float(row[best]), "true" if row[best] >= 0.04 else "false"]
            for name in labels:
                inside = np.flatnonzero(category_of == name)
                first = inside[row[inside].argmax()]
                cells += [concepts[first][0] if row[first] else "", float(row[first])]
            out.writerow([*cells, float(min(1.0, 10 ** (-40 * row[best] + 1)))])


def _write_concepts(folder, iou, concepts, rng) -> None:
    with (folder / "concepts.csv").open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["label", "category", "pixels", "images", "best_unit", "best_iou"])
        for column, (label, category) in enumerate(concepts):
            best = int(iou[:, column].argmax())
            pixels, images = int(rng.integers(500, 900_000)), int(rng.integers(5, 400))
            out.writerow([label, category, pixels, images, best, float(iou[best, column])])


def _write_summary(folder, iou, concepts, labels) -> None:
    best, top = iou.argmax(1), iou.max(1)
    detector = top >= 0.04
    category_of = np.array([category for _, category in concepts])
    per_category = {}
    by_category = {}
    for name in labels:
        inside = np.flatnonzero(category_of == name)
        hits = iou[:, inside].max(1) >= 0.04
        per_category[name] = {
            "detectors": int(hits.sum()),
            "unique_detectors": len(set(iou[hits][:, inside].argmax(1).tolist())),
        }
        mine = detector & (category_of[best] == name)
        by_category[name] = {
            "detectors": int(mine.sum()),
            "unique_detectors": len(set(best[mine].tolist())),
        }
    unique = len(set(best[detector].tolist()))
    summary = {
        "layer": folder.name,
        "units": len(iou),
        "images": 512,
        "quantile": 0.005,
        "min_iou": 0.04,
        "detectors": int(detector.sum()),
        "unique_detectors": unique,
        "ratio_unique_detectors": unique / len(iou),
        "mean_iou": float(top.mean()),
        "by_category": by_category,
        "per_category": per_category,
        "chance": {
            "detectors": 6.4,
            "unique_detectors": 3.1,
            "mean_iou": 0.0171,
            "shuffles": 10,
            "per_category": {
                name: {"detectors": 2.2, "unique_detectors": 0.8 + 0.3 * index}
                for index, name in enumerate(labels)
            },
        },
        "skipped": ["images/broken.jpg"],
        "data": "/data/broden_small",
        "categories": list(labels),
        "something_new": {"tolerated": True},
    }
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")


def _write_pictures(folder, units, images, picture_bytes) -> None:
    (folder / "pictures").mkdir()
    rows = ["unit,rank,image,peak,y,x"]
    for unit in range(units):
        for rank in range(images):
            rows.append(
                f"{unit},{rank},images/val/{(unit * 7 + rank) % 50:04d}.jpg,{9.5 - rank},3,4"
            )
        # tests need many pictures, not many different ones
        data = _some_strip(unit % 12, images)
        # Readers pass over what follows the picture: a cheap way to many bytes.
        (folder / "pictures" / f"{unit}.webp").write_bytes(data.ljust(picture_bytes, b"\0"))
    (folder / "top.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


@cache
def _some_strip(seed: int, images: int) -> bytes:
    """A WebP file of so many discs, each lit on a colour of its own."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[:112, :112]
    shown, masks = [], []
    for _ in range(images):
        shown.append(np.full((112, 112, 3), rng.integers(60, 255, 3), np.uint8))
        y, x, r = [*rng.uniform(20, 92, 2).tolist(), rng.uniform(12, 34)]
        masks.append((yy - y) ** 2 + (xx - x) ** 2 < r**2)
    buffer = io.BytesIO()
    strip(shown, masks).save(buffer, "WEBP", quality=80)
    return buffer.getvalue()


def make_workspace(root: Path, layers: dict[str, int], **options) -> Path:
    document = {
        "model": {
            "spec": "models/squeezenet1_0.pt",
            "arch": "squeezenet1_0",
            "fingerprint": "9f3b2c1d8e7a6054",
            "preprocess": {
                "size": [224, 224],
                "mean": [0.485, 0.456, 0.406],
                "std": [0.229, 0.224, 0.225],
                "resize": None,
                "interpolation": "bilinear",
                "scale": 1.0,
                "bgr": False,
                "source": "torchvision",
            },
            "classes": ["a", "b", "c"],
        },
        "data": [
            {"path": "/data/broden_small", "name": "broden_small", "kind": "broden", "images": 512}
        ],
        "layers": list(layers),
        "versions": {"cnnlens": "0.1.0", "torch": "2.8.0"},
        "commands": ["cnnlens dissect models/squeezenet1_0.pt -d /data/broden_small"],
    }
    root.mkdir(parents=True, exist_ok=True)
    (root / "workspace.json").write_text(json.dumps(document), encoding="utf-8")
    for seed, (name, units) in enumerate(layers.items()):
        make_layer(root / "dissect" / name, units, seed, **options)
    return root


def make_evolution(root: Path, layer: str, units: list[int], checkpoints: int = 3) -> None:
    """What ``cnnlens evolve`` leaves: the last unit dies, the first one jumps once."""
    folder, moments = root / "evolve" / layer, []
    folder.mkdir(parents=True)
    for at in range(checkpoints):
        picture = f"epoch-{at}.webp"
        Image.new("RGB", (192, 96 * len(units)), (60 * at, 90, 120)).save(folder / picture)
        alive = [
            {"unit": unit, "peak": 2.0 + at, "top_image": f"photo {at}.jpg", "position": [0, 0],
             "box": [0, 0, 8, 8], "jumped": at == 1 and unit == units[0],
             "correlation_with_last": (at + 1) / checkpoints}
            for unit in units
        ]  # fmt: skip
        if at == checkpoints - 1:
            alive[-1] |= {"top_image": None, "correlation_with_last": None}
        moments.append(
            {"file": f"epoch-{at}.pt", "epoch": at, "picture": picture, "dead_units": at,
             "jumps": int(at == 1), "units": alive}
        )  # fmt: skip
    document = {"layer": layer, "layer_units": 60, "order": "epoch", "checkpoints": moments}
    (folder / "evolve.json").write_text(json.dumps(document))


def examine(workspace: Path, rows: list[tuple[int, str, str, float, bool]]) -> None:
    """Write what `exam` writes: unit, method, label, correlation, whether it passes."""
    folder = workspace / "exam" / "conv5"
    folder.mkdir(parents=True)
    table = [
        {
            **{"unit": unit, "method": method, "label": label, "p_value": 0.001},
            **{"adjusted_p_value": 0.002, "passes": passes, "examined": label, "images": 8},
            **{"shown": 3, "chance": 0.0},
            **{f"{name}_{end}": 0.0 for name in SCORES for end in ("low", "high", "chance")},
            **dict.fromkeys(SCORES, 0.1),
            "correlation": score,
        }
        for unit, method, label, score, passes in rows
    ]
    write_rows(folder / "units.csv", list(table[0]), table)
    by_chance = {method: {"share_by_chance": 0.01} for _, method, *_ in rows}
    (folder / "summary.json").write_text(json.dumps({"layer": "conv5", "methods": by_chance}))

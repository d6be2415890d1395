"""The five criteria of an interpretable network, measured on one layer's maps.

Against the same training without the method: location instability falls, selectivity rises, the
peaks' distance from the centre does not shrink, dead units do not grow, accuracy stays within 3
points. The first alone proves nothing: a mask that pulls peaks to the centre lowers it untrained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

TOP = 100  # images per part, by peak
FEWEST = 5  # that must show a part


def measure(maps: np.ndarray, centres: np.ndarray, labels: np.ndarray, parts: np.ndarray) -> dict:
    """Stability of each unit of a layer (METHODS: location instability), as means over units.

    maps (N, C, H, W); centres (H, W, 2) of the positions' receptive fields, and parts (N, P, 2),
    NaN where a part is not seen, both as shares of the image's height and width; labels (N,), -1
    for negatives.
    """
    flat = maps.reshape(*maps.shape[:2], -1)
    score, place = flat.max(axis=2), flat.argmax(axis=2)
    peaks = centres.reshape(-1, 2)[place]  # (N, C, 2)
    kinds = [k for k in np.unique(labels) if k >= 0]
    mean = np.stack([flat.sum(axis=2)[labels == k].mean(axis=0) for k in kinds])  # (K, C)
    unstable, shuffled, selective, distance, dead = [], [], [], [], 0
    random = np.random.default_rng(0)
    for unit, best in enumerate(mean.argmax(axis=0)):
        own = labels == kinds[best]
        if not (score[own, unit] > 0).any():
            dead += 1
            continue
        images = np.flatnonzero(own)
        unstable.append(_instability(score, peaks[images, unit], parts, unit, images))
        order = random.permutation(len(images))
        shuffled.append(_instability(score, peaks[images[order], unit], parts, unit, images))
        selective.append(_area(score[own, unit], score[~own, unit]))
        distance.append(np.linalg.norm(peaks[images, unit] - 0.5, axis=1).mean() / 2**0.5)
    return {
        "instability": float(np.mean(unstable)),
        "shuffled": float(np.mean(shuffled)),
        "selectivity": float(np.mean(selective)),
        "centre_distance": float(np.mean(distance)),
        "dead_units": dead,
    }


def _instability(
    score: np.ndarray, peaks: np.ndarray, parts: np.ndarray, unit: int, images: np.ndarray
) -> float:
    found = []
    for part in range(parts.shape[1]):
        shown = np.flatnonzero(~np.isnan(parts[images, part, 0]))
        if len(shown) < FEWEST:
            continue
        shown = shown[np.argsort(-score[images[shown], unit], kind="stable")[:TOP]]
        away = np.linalg.norm(peaks[shown] - parts[images[shown], part], axis=1) / 2**0.5
        found.append(away.std(ddof=1))
    return float(np.mean(found))


def _area(own: np.ndarray, others: np.ndarray) -> float:
    """Area under the ROC curve of the peak score."""
    ranks = rankdata(np.concatenate([own, others]))[: len(own)]
    return (ranks.sum() - len(own) * (len(own) + 1) / 2) / (len(own) * len(others))


def criteria(plain: Mapping[str, float], method: Mapping[str, float]) -> dict[str, bool]:
    """Hold the method's figures (means over seeds) against those of the same training without."""
    return {
        "instability falls": method["instability"] < plain["instability"],
        "selectivity rises": method["selectivity"] > plain["selectivity"],
        "centre distance does not shrink": method["centre_distance"]
        >= plain["centre_distance"] - 0.005,
        "dead units do not grow": method["dead_units"] <= plain["dead_units"],
        "accuracy within 3 points": method["accuracy"] >= plain["accuracy"] - 0.03,
    }


def report(runs: Sequence[Mapping], out: Path) -> str:
    """Table of all runs, the criteria on the means and per seed; the same as JSON in `out`."""
    keys = ["instability", "shuffled", "selectivity", "centre_distance", "dead_units", "accuracy"]
    of = {m: [r for r in runs if r["method"] == m] for m in ("none", "icnn")}
    means = {m: {k: float(np.mean([r[k] for r in rs])) for k in keys} for m, rs in of.items()}
    lines = [f"{'':18}" + "".join(f"{k:>17}" for k in keys)]
    for run in runs:
        name = f"{run['method']} seed {run['seed']}"
        lines.append(f"{name:18}" + "".join(f"{run[k]:17.4f}" for k in keys))
    for method, row in means.items():
        lines.append(f"{method + ' mean':18}" + "".join(f"{row[k]:17.4f}" for k in keys))
    verdicts = criteria(means["none"], means["icnn"])
    single = [criteria(a, b) for a, b in zip(of["none"], of["icnn"], strict=True)]
    for name, holds in verdicts.items():
        count = sum(one[name] for one in single)
        lines.append(f"{'pass' if holds else 'FAIL'}  {name} (seeds: {count} of {len(single)})")
    document = {"runs": list(runs), "means": means, "criteria": verdicts, "per_seed": single}
    out.write_text(json.dumps(document, indent=2) + "\n")
    return "\n".join(lines)

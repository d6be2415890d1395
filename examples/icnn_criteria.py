"""The five criteria of an interpretable network, measured on one layer.

Against the same training without the method: location instability falls, selectivity rises, the
peaks' distance from the centre does not shrink, dead units do not grow, accuracy stays within 3
points. The first alone proves nothing: a mask that pulls peaks to the centre lowers it untrained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import cnnlens
from cnnlens.data.parts import PartSet
from cnnlens.model.model import Model


def measure(model: Model, name: str, data: PartSet) -> dict:
    """Means over a layer's units of what `cnnlens stability` finds."""
    layer = cnnlens.find_layers(model).resolve(name)
    source = cnnlens.ModelSource(model, data, [layer], cnnlens.RunSettings())
    settings = cnnlens.StabilitySettings(chance=20)
    (found,) = cnnlens.stability(source, data, [layer.fields], model.preprocess.size, settings)
    figures = {
        "instability": float(np.nanmean(found.instability)),
        "shuffled": found.shuffled,
        "selectivity": float(np.nanmean(found.selectivity)),
        "centre_distance": float(np.nanmean(found.centre_distance)),
        "dead_units": int(found.dead.sum()),
    }
    for number, one in enumerate(found.associations):
        key = ("interpretability", "interpretability_wide")[number]
        figures[key] = float(np.nanmean(one.best(one.by_part)))
    return figures


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
    keys += [key for key in runs[0] if key.startswith("interpretability")]
    of = {m: [r for r in runs if r["method"] == m] for m in ("none", "icnn")}
    means = {m: {k: float(np.mean([r[k] for r in rs])) for k in keys} for m, rs in of.items()}
    lines = [f"{'':18}" + "".join(f"{k[:16]:>17}" for k in keys)]
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

"""Dissect a layer from Python: python examples/dissect.py MODEL DATA LAYER."""

from __future__ import annotations

import sys

import numpy as np

import cnnlens


def main(spec: str, folder: str, name: str) -> None:
    model = cnnlens.open_model(spec)
    layer = cnnlens.find_layers(model).resolve(name)
    data = cnnlens.open_data(folder)
    source = cnnlens.ModelSource(model, data, [layer], cnnlens.RunSettings())
    (found,) = cnnlens.dissect(source, data, cnnlens.DissectSettings(chance=5))

    print(f"{found.detectors.detectors} of {found.units} units are detectors", end="; ")
    print(f"by chance {found.chance['detectors']:.1f}")
    for unit in np.argsort(-found.best_iou, kind="stable")[:5]:
        label = found.concepts.names[found.best[unit]].label
        score, p = found.best_iou[unit], found.p_values[unit]
        print(f"  unit {unit}: {label}, IoU {score:.3f}, p {p:.2g}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])

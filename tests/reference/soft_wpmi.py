"""CLIP-Dissect's soft WPMI once more, slowly: word by word, image by image."""

from __future__ import annotations

from math import exp, log

import numpy as np


def soft_wpmi(images: np.ndarray, words: np.ndarray, units: np.ndarray, top: int) -> np.ndarray:
    """Score each unit (n, C) by each word (K, D), by vectors of images (n, D): (C, K)."""
    given = []
    for unit in range(units.shape[1]):
        order = sorted(range(len(images)), key=lambda at: -units[at, unit])[:top]
        sums = [0.0] * len(words)
        for place, image in enumerate(order):
            agree = [exp(10 * float(images[image] @ word)) for word in words]
            p = 0.998 - place / top * (0.998 - 0.97)
            for at in range(len(words)):
                sums[at] += log(1 + p * (agree[at] / sum(agree) - 1) + 1e-7)
        given.append(sums)
    every = [log(sum(exp(of[at]) for of in given) / len(given)) for at in range(len(words))]
    return np.array([[of[at] - every[at] for at in range(len(words))] for of in given])

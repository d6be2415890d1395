"""Smallest changes once more, slowly: DeepFool as printed, exact distances, a search by grid."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Scores = Callable[[np.ndarray], np.ndarray]  # from an image, flat, to class scores, in float64


def slope(scores: Scores, x: np.ndarray, number: int, other: int, step: float = 1e-5) -> np.ndarray:
    """Gradient of one score less another, by central differences."""
    found = np.zeros_like(x)
    for i in range(len(x)):
        apart = np.zeros_like(x)
        apart[i] = step
        up, down = scores(x + apart), scores(x - apart)
        found[i] = ((up[number] - up[other]) - (down[number] - down[other])) / (2 * step)
    return found


def deepfool(
    scores: Scores, x0: np.ndarray, overshoot: float = 0.02, steps: int = 50
) -> np.ndarray:
    """Algorithm 2 of the paper, the picture kept in [0, 1], as its authors' program steps."""
    first = int(scores(x0).argmax())
    x, total = x0, np.zeros_like(x0)
    for _ in range(steps):
        if int(scores(x).argmax()) != first:
            return x
        best, shortest = None, np.inf
        for k in range(len(scores(x))):
            if k == first:
                continue
            w = slope(scores, x, k, first)
            f = scores(x)[k] - scores(x)[first]
            if abs(f) / np.linalg.norm(w) < shortest:
                shortest = abs(f) / np.linalg.norm(w)
                best = (abs(f) + 1e-4) / np.linalg.norm(w) ** 2 * w
        assert best is not None
        total = total + best
        x = np.clip(x0 + (1 + overshoot) * total, 0, 1)
    raise AssertionError("no boundary was crossed")


def affine_distance(
    weights: np.ndarray, bias: np.ndarray, x: np.ndarray, target: int = -1
) -> float:
    """Distance of a point from the nearest boundary of an affine classifier, or from a class.

    Of a class, that is the least norm with which its score reaches all others: by projecting onto
    the boundaries in turn (Dykstra), for as long as it takes.
    """
    scores = weights @ x + bias
    first = int(scores.argmax())
    if target < 0:
        return min(
            (scores[first] - scores[k]) / float(np.linalg.norm(weights[first] - weights[k]))
            for k in range(len(scores))
            if k != first
        )
    others = [k for k in range(len(scores)) if k != target]
    point, kept = x.copy(), {k: np.zeros_like(x) for k in others}
    for _ in range(3000):
        for k in others:
            w, b = weights[target] - weights[k], bias[target] - bias[k]
            moved = point + kept[k]
            short = max(0.0, -(w @ moved + b)) / (w @ w)
            point = moved + short * w
            kept[k] = moved - point
    return float(np.linalg.norm(point - x))


def nearest_on_grid(scores: Scores, x: np.ndarray, cells: int) -> float:
    """Distance to the nearest of all pictures of two pixels, on a grid, that are another class."""
    first, best = int(scores(x).argmax()), np.inf
    for a in np.linspace(0, 1, cells):
        for b in np.linspace(0, 1, cells):
            point = np.array([a, b])
            far = float(np.linalg.norm(point - x))
            if far < best and int(scores(point).argmax()) != first:
                best = far
    return best

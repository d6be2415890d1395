"""Concept group learning, literally as printed, one number at a time."""

from __future__ import annotations

import math

import numpy as np


def soft_field(a: np.ndarray, p1: float, p2: float) -> np.ndarray:
    psi = np.empty_like(a)
    for unit in range(a.shape[1]):
        s = a[:, unit].std()
        psi[:, unit] = 1 / (1 + np.exp(-(p1 * a[:, unit] / s + p2)))
    return psi


def soft_field_of_norm(
    a: np.ndarray, gamma: np.ndarray, beta: np.ndarray, p1: float, p2: float
) -> np.ndarray:
    """From â, the normalized maps before scale and shift."""
    psi = np.empty_like(a)
    for unit in range(a.shape[1]):
        tau = a[:, unit] + beta[unit] / gamma[unit]
        psi[:, unit] = 1 / (1 + np.exp(-(p1 * tau + p2)))
    return psi


def distance(one: np.ndarray, other: np.ndarray) -> float:
    apart = np.abs(one - other).sum()
    return 2 * apart / (np.abs(one).sum() + np.abs(other).sum() + apart)


def group_loss(psi: np.ndarray, pairs: list[list[tuple[int, int]]]) -> float:
    total = 0.0
    for of_group in pairs:
        total += sum(distance(psi[:, i], psi[:, j]) for i, j in of_group) / len(of_group)
    return total


def spatial_loss(psi: np.ndarray) -> float:
    images, units, height, width = psi.shape
    found = []
    for image in range(images):
        for unit in range(units):
            field = psi[image, unit]
            mass = field.sum()
            y = sum(field[i, j] * i for i in range(height) for j in range(width)) / mass
            x = sum(field[i, j] * j for i in range(height) for j in range(width)) / mass
            away = sum(
                field[i, j] * math.hypot(i - y, j - x) for i in range(height) for j in range(width)
            )
            found.append(away / mass)
    return float(np.mean(found))


def block_norm(weight: np.ndarray, groups: int) -> float:
    size = len(weight) // groups
    return sum(math.sqrt((weight[g * size : (g + 1) * size] ** 2).sum()) for g in range(groups))

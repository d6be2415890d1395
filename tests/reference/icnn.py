"""The interpretable CNN, literally: loops over images, filters and templates, in plain floats."""

from __future__ import annotations

import math


def template(mu: tuple[float, float], size: tuple[int, int], beta: float) -> list[list[float]]:
    height, width = size
    return [
        [
            max(1 - beta * (abs(i - mu[0]) / height + abs(j - mu[1]) / width), -1)
            for j in range(width)
        ]
        for i in range(height)
    ]


def inner(x: list[list[float]], t: list[list[float]]) -> float:
    return sum(x[i][j] * t[i][j] for i in range(len(x)) for j in range(len(x[0])))


def all_templates(size: tuple[int, int], tau: float, beta: float) -> list[list[list[float]]]:
    height, width = size
    found = [
        [[tau * v for v in row] for row in template((i, j), size, beta)]
        for i in range(height)
        for j in range(width)
    ]
    return [*found, [[-tau] * width for _ in range(height)]]


def priors(size: tuple[int, int]) -> list[float]:
    cells = size[0] * size[1]
    alpha = cells / (1 + cells)
    return [alpha / cells] * cells + [1 - alpha]


def conditionals(maps: list[list[list[float]]], tau: float, beta: float) -> list[list[float]]:
    """p(x|T), by template, then by image."""
    size = (len(maps[0]), len(maps[0][0]))
    found = []
    for t in all_templates(size, tau, beta):
        raised = [math.exp(inner(x, t)) for x in maps]
        found.append([v / sum(raised) for v in raised])
    return found


def mutual_information(maps: list[list[list[float]]], tau: float, beta: float) -> float:
    """Eq. (1), without its sign, for one filter."""
    size = (len(maps[0]), len(maps[0][0]))
    given, prior = conditionals(maps, tau, beta), priors(size)
    total = 0.0
    for n in range(len(maps)):
        marginal = sum(p * of[n] for p, of in zip(prior, given, strict=True))
        total += sum(
            p * of[n] * math.log(of[n] / marginal) for p, of in zip(prior, given, strict=True)
        )
    return total


def gradient(
    maps: list[list[list[float]]], tau: float, beta: float, n: int, i: int, j: int
) -> float:
    """dMI/dx_ij of image n, with the term -KL_T that the paper leaves out.

    d p(x'|T)/d x_ij = t_ij p(x'|T) ([x' = x] - p(x|T)), and the derivatives of both logarithms
    cancel in sum, so dMI = sum_T p(T) t_ij p(x|T) (log p(x|T)/p(x) - KL_T).
    """
    size = (len(maps[0]), len(maps[0][0]))
    given, prior = conditionals(maps, tau, beta), priors(size)
    shapes = all_templates(size, tau, beta)
    marginal = [
        sum(p * of[m] for p, of in zip(prior, given, strict=True)) for m in range(len(maps))
    ]
    total = 0.0
    for p, of, t in zip(prior, given, shapes, strict=True):
        divergence = sum(of[m] * math.log(of[m] / marginal[m]) for m in range(len(maps)))
        total += p * t[i][j] * of[n] * (math.log(of[n] / marginal[n]) - divergence)
    return total


def masked(x: list[list[float]], beta: float) -> list[list[float]]:
    """max(x∘m, 0) with the mask at the first highest value."""
    height, width = len(x), len(x[0])
    mu, best = (0, 0), x[0][0]
    for i in range(height):
        for j in range(width):
            if x[i][j] > best:
                mu, best = (i, j), x[i][j]
    m = template(mu, (height, width), beta)
    return [[max(x[i][j] * m[i][j], 0) for j in range(width)] for i in range(height)]


def filter_losses(
    batches: list[tuple[list[list[list[list[float]]]], list[int]]],
    frequency: list[float],
    beta: float,
) -> list[float]:
    """Filter loss of every minibatch, per 64 filters, of (images × filters × rows × columns).

    A filter's category and its peak are running means that keep 0.9; an image weighs by its peak
    (0.1 to 3 times the mean one, then of mean 1), and its category by 0.5 over its density.
    """
    filters = len(batches[0][0][0])
    means: list[list[float | None]] = [[None] * len(frequency) for _ in range(filters)]
    peaks: list[float | None] = [None] * filters
    found = []
    for maps, labels in batches:
        total = 0.0
        for f in range(filters):
            of = [image[f] for image in maps]
            highest = [max(max(row) for row in x) for x in of]
            for k in set(labels):
                own = [x for x, label in zip(of, labels, strict=True) if label == k]
                value = sum(sum(sum(row) for row in x) / (len(x) * len(x[0])) for x in own)
                value /= len(own)
                before = means[f][k]
                means[f][k] = value if before is None else 0.9 * before + 0.1 * value
            usual = peaks[f]
            peak = max(highest) if usual is None else 0.9 * usual + 0.1 * max(highest)
            peaks[f] = peak
            known = [-1.0 if m is None else m for m in means[f]]
            category = known.index(max(known))
            average = sum(highest) / len(highest)
            strength = [min(max(h / average, 0.1), 3.0) for h in highest]
            strength = [s / (sum(strength) / len(strength)) for s in strength]
            for x, label, s in zip(of, labels, strength, strict=True):
                size = (len(x), len(x[0]))
                places = [(i, j) for i in range(size[0]) for j in range(size[1])]
                mu = max(places, key=lambda p: x[p[0]][p[1]])
                if label == category:
                    each = -0.5 / frequency[category] * inner(x, template(mu, size, beta))
                else:
                    each = 0.5 / (1 - frequency[category]) * sum(sum(row) for row in x)
                total += s * each / (peak * size[0] * size[1])
        found.append(total / (len(maps) * filters) * filters / 64)
    return found

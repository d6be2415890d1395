"""Location instability and part interpretability, literally: loops over units, parts and images."""

from __future__ import annotations

import math
import statistics


def instability(peaks, scores, centres, size, top=100, fewest=10):
    """One unit: peaks (n, 2) and centres (n, P, 2) in pixels; mean over parts, and per part."""
    diagonal = math.hypot(*size)
    per_part = []
    for k in range(len(centres[0])):
        shown = [i for i in range(len(peaks)) if not math.isnan(centres[i][k][0])]
        if len(shown) < fewest:
            per_part.append(math.nan)
            continue
        shown.sort(key=lambda i: -scores[i])
        away = [
            math.hypot(peaks[i][0] - centres[i][k][0], peaks[i][1] - centres[i][k][1])
            for i in shown[:top]
        ]
        per_part.append(statistics.stdev(away) / diagonal)
    return statistics.mean(v for v in per_part if not math.isnan(v)), per_part


def p_value(peaks, scores, centres, size, shuffles, random):
    """Of one unit: how often its places, dealt anew to the images above 0, are as steady."""
    value, _ = instability(peaks, scores, centres, size)
    lit = [i for i in range(len(peaks)) if scores[i] > 0]
    hits = 1
    for _ in range(shuffles):
        dealt = list(peaks)
        for to, of in zip(lit, random.sample(lit, len(lit)), strict=True):
            dealt[to] = peaks[of]
        hits += instability(dealt, scores, centres, size)[0] <= value + 1e-12
    return hits / (1 + shuffles)


def association(masks, parts):
    """One unit, one part: masks and part masks of all images, nested lists of bools."""
    fits = shown = lit = 0
    smallest = math.inf
    for mask, part in zip(masks, parts, strict=True):
        rows = zip(mask, part, strict=True)
        flat = [(bool(a), bool(b)) for r, s in rows for a, b in zip(r, s, strict=True)]
        size = sum(b for _, b in flat)
        if not size:
            continue
        shown += 1
        lit += sum(a for a, _ in flat)
        smallest = min(smallest, size)
        common, union = sum(a and b for a, b in flat), sum(a or b for a, b in flat)
        fits += common > 0.2 * union
    return fits / shown, min(lit / (0.2 * smallest * shown), 1.0)


def roc_area(own, others):
    """Chance that one of `own` lies above one of `others`, ties counted half."""
    wins = sum((a > b) + 0.5 * (a == b) for a in own for b in others)
    return wins / (len(own) * len(others))

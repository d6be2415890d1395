"""What units respond to, literally: loops over units, images, positions and pairs of units."""

from __future__ import annotations

import math

AMONG = 100


def peak(map_):
    return max(max(row) for row in map_)


def place(map_):
    for y, row in enumerate(map_):
        for x, value in enumerate(row):
            if value == peak(map_):
                return [y, x]


def ranked(peaks, count, rows, lowest=False):
    order = sorted(rows, key=lambda row: (peaks[row] if lowest else -peaks[row], row))
    return (order + [-1] * count)[:count]


def unit(maps, categories=None, top=9, rows=None):
    """One unit: maps (n, H, W), nested lists; all columns but the neighbour, and the lists."""
    rows = list(range(len(maps))) if rows is None else rows
    peaks = [peak(map_) for map_ in maps]
    values = [value for map_ in maps for row in map_ for value in row]
    best, worst = ranked(peaks, top, rows), ranked(peaks, top, rows, lowest=True)
    found = {
        "dead": not max(peaks) > 0,
        "density": sum(value > 0 for value in values) / len(values),
        "mean": math.fsum(values) / len(values),
        "peak_max": max(peaks),
        "top": best,
        "bottom": worst,
        "top_position": [place(maps[row]) if row >= 0 else [-1, -1] for row in best],
        "bottom_position": [place(maps[row]) if row >= 0 else [-1, -1] for row in worst],
        "category": "",
        "category_share": None,
        "category_entropy": None,
        "class_selectivity": None,
    }
    if categories:
        found |= by_category(maps, peaks, categories, rows)
    return found


def by_category(maps, peaks, categories, rows):
    among = [categories[row] for row in ranked(peaks, AMONG, rows) if row >= 0]
    first = max(dict.fromkeys(among), key=among.count)  # of equal counts the first met
    shares = [among.count(name) / len(among) for name in sorted(set(among))]
    means = []
    for name in sorted(set(categories)):
        own = [
            v for m, c in zip(maps, categories, strict=True) if c == name for row in m for v in row
        ]
        means.append(math.fsum(own) / len(own))
    selectivity = None
    if len(means) > 1 and min(means) >= 0 and max(means) > 0:
        most = max(means)
        rest = (math.fsum(means) - most) / (len(means) - 1)
        selectivity = (most - rest) / (most + rest)
    return {
        "category": first,
        "category_share": among.count(first) / len(among),
        "category_entropy": -sum(share * math.log2(share) for share in shares),
        "class_selectivity": selectivity,
    }


def bins(peaks, count):
    """Edges, and the bin of every peak; a bin holds its lower edge, the last one both."""
    low, high = min(0.0, min(peaks)), max(peaks)
    edges = [low + k * ((high - low) / count) for k in range(count)] + [high]
    where = []
    for value in peaks:
        at = 0
        while at < count - 1 and high > low and value >= edges[at + 1]:
            at += 1
        where.append(at)
    return edges, where


def examples(peaks, count, per_bin, order):
    """Rows of every bin: the first ones in the order drawn, by falling peak."""
    _, where = bins(peaks, count)
    found = []
    for k in range(count):
        drawn = [row for row in order if where[row] == k][:per_bin]
        drawn.sort(key=lambda row: (-peaks[row], row))
        found.append(drawn + [-1] * (per_bin - len(drawn)))
    return found


def correlation(a, b):
    """Pearson's, of two lists; None where one is constant."""
    if len(set(a)) == 1 or len(set(b)) == 1:
        return None
    x, y = math.fsum(a) / len(a), math.fsum(b) / len(b)
    both = math.fsum((p - x) * (q - y) for p, q in zip(a, b, strict=True))
    lengths = math.fsum((p - x) ** 2 for p in a) * math.fsum((q - y) ** 2 for q in b)
    return both / math.sqrt(lengths)


def neighbours(layers, layer, unit, count):
    """(layer, unit, correlation) of those most like a unit; layers: peaks (units, n) by name."""
    mine = layers[layer][unit]
    found = []
    for name in [layer, *(n for n in sorted(layers) if n != layer)]:
        for number, peaks in enumerate(layers[name]):
            r = None if (name, number) == (layer, unit) else correlation(mine, peaks)
            if r is not None:
                found.append((name, number, r))
    return sorted(found, key=lambda one: -one[2])[:count]

"""Dai 2020's two algorithms, line by line as printed, with nothing saved."""

from __future__ import annotations

import itertools
import math

import numpy as np


def cos(u, v):
    length = math.sqrt(float((u * u).sum()) * float((v * v).sum()))
    return None if length == 0 else float((u * v).sum()) / length


def distance(u, v):
    value = cos(u, v)
    return 0.5 if value is None else max(0.0, 0.5 * (1 - value))


def category_merges(representatives):
    """Algorithm 1 on a dict of name -> vector: [(set of names, set of names, distance)]."""
    nodes = [frozenset([name]) for name in representatives]
    edge = {
        frozenset((a, b)): distance(representatives[min(a)], representatives[min(b)])
        for a, b in itertools.combinations(nodes, 2)
    }
    merges: list[tuple] = []
    while len(nodes) > 1:
        u, v = min(itertools.combinations(nodes, 2), key=lambda pair: edge[frozenset(pair)])
        s = u | v
        merges.append((u, v, edge[frozenset((u, v))]))
        for w in nodes:
            if w not in (u, v):
                edge[frozenset((w, s))] = (edge[frozenset((w, u))] + edge[frozenset((w, v))]) / 2
        nodes = [w for w in nodes if w not in (u, v)] + [s]
    return merges


def filter_merges(maps, rule="argmin"):
    """Algorithm 2 on maps (n, C, H, W): [(node, node, distance, filter or None, reachable set)]."""
    maps = maps.astype(np.float64)
    count, units = maps.shape[:2]
    vector = dict(enumerate(maps))
    reach = {i: frozenset(range(units)) for i in range(count)}
    children = list(range(count))
    merges: list[tuple] = []
    while len(children) > 1 and any(len(reach[p]) > 1 for p in children):
        u, v = min(
            itertools.combinations(children, 2),
            key=lambda pair: distance(vector[pair[0]], vector[pair[1]]),
        )
        s = count + len(merges)
        both = reach[u] & reach[v]
        critical = _critical(vector[u], vector[v], reach[u], reach[v], rule)
        reach[s] = both - {critical}
        merges.append((u, v, distance(vector[u], vector[v]), critical, reach[s]))
        vector[s] = (vector[u] + vector[v]) / 2
        children = [p for p in children if p not in (u, v)] + [s]
    return merges


def _critical(u, v, reach_u, reach_v, rule):
    def masked(vector, filters):
        keep = np.zeros(len(vector))
        keep[list(filters)] = 1
        return vector * keep[:, None, None]

    whole = cos(masked(u, reach_u), masked(v, reach_v)) or 0.0
    best, found = None, None
    for f in sorted(reach_u & reach_v):
        without = cos(masked(u, reach_u - {f}), masked(v, reach_v - {f}))
        without = whole if without is None else without
        if rule == "argmin":
            value = without / whole if whole != 0 else 1.0
        else:
            value = -abs(without - whole)
        if best is None or value < best - 1e-12:
            best, found = value, f
    return found


def decision_path(maps, image, rule="argmin"):
    """The way of an image to a leaf: [(merge, filter or None, near, far)], leaf, distance."""
    maps, image = maps.astype(np.float64), image.astype(np.float64)
    merges = filter_merges(maps, rule)
    vector = dict(enumerate(maps))
    for number, (u, v, *_) in enumerate(merges):
        vector[len(maps) + number] = (vector[u] + vector[v]) / 2
    joined = {node for u, v, *_ in merges for node in (u, v)}
    node = min((n for n in vector if n not in joined), key=lambda n: distance(vector[n], image))
    splits = []
    while node >= len(maps):
        u, v, _, critical, _ = merges[node - len(maps)]
        to_u, to_v = distance(vector[u], image), distance(vector[v], image)
        near = u if to_u < to_v or (to_u == to_v and u < v) else v
        splits.append((node - len(maps), critical, min(to_u, to_v), max(to_u, to_v)))
        node = near
    return splits, node, distance(vector[node], image)

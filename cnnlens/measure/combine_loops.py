"""Loops of `combine`, compiled: one image and one of the concepts that it shows at a time.

Forward, units' binary maps are summed up and interpolated to the label map, first along rows, then
along columns; backward, slopes of the loss take the same way back.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from cnnlens.measure.masks import compiled


@compiled
def _sum(image, concept, units, places, ends, weights, kept, sums):
    """Sum up an image's binary maps (H, W); return its first and last row with a unit that counts,
    and -1, -1 where there is none.
    """
    width = sums.shape[1]
    first, last = -1, -1
    sums[:] = 0
    for one in range(ends[image], ends[image + 1]):
        unit = units[one]
        if kept[concept, unit]:
            y, x = divmod(places[one], width)
            sums[y, x] += weights[concept, unit]
            first = y if first < 0 else min(first, y)
            last = max(last, y)
    return first, last


@compiled
def _widen(sums, column_first, column_weight, wide):
    """Interpolate every row (H, W) to the label map's columns (H, w)."""
    height, width = sums.shape
    for y in range(height):
        for x in range(width):
            value = sums[y, x]
            step = sums[y, min(x + 1, width - 1)] - value
            for column in range(column_first[x], column_first[x + 1]):
                wide[y, column] = value + step * column_weight[column]


@compiled
def _narrow(wide, column_first, column_weight, sums):
    """Bring what belongs to columns (H, w) back to the map's (H, W): the adjoint of `_widen`."""
    height, width = sums.shape
    sums[:] = 0
    for y in range(height):
        for x in range(width):
            for column in range(column_first[x], column_first[x + 1]):
                share = wide[y, column] * column_weight[column]
                sums[y, x] += wide[y, column] - share
                sums[y, min(x + 1, width - 1)] += share


@compiled
def _between(upper, lower, weight, out):
    for column in range(len(out)):
        out[column] = upper[column] + (lower[column] - upper[column]) * weight


@compiled
def _add(values, weight, out):
    for column in range(len(out)):
        out[column] += values[column] * weight


@compiled
def _heighten(wide, row_first, row_weight, first, last, value):
    """Interpolate rows `first` to `last` of (H, w) to the label map's (h · w)."""
    height, columns = wide.shape
    for y in range(first, last + 1):
        below = min(y + 1, height - 1)
        for row in range(row_first[y], row_first[y + 1]):
            out = value[row * columns : (row + 1) * columns]
            _between(wide[y], wide[below], row_weight[row], out)


@compiled
def _flatten(slopes, row_first, row_weight, first, last, back):
    """Bring slopes (h · w) back to the rows that they came from (H, w): the adjoint of
    `_heighten`.
    """
    height, columns = back.shape
    back[:] = 0
    for y in range(first, last + 1):
        below = min(y + 1, height - 1)
        for row in range(row_first[y], row_first[y + 1]):
            slope = slopes[row * columns : (row + 1) * columns]
            _add(slope, np.float32(1) - row_weight[row], back[y])
            _add(slope, row_weight[row], back[below])


@partial(compiled, error_model="numpy")  # a quotient that may raise is not vectorized
def _sigmoid(values, out):
    """1/(1 + exp(-v)) within 1e-7, as a quotient of polynomials that runs over whole vectors.

    The coefficients are Eigen's for tanh; beyond ±15.8 the value is that at the end.
    """
    f, end = np.float32, np.float32(7.90531110763549805)
    for place in range(len(values)):
        x = values[place] * f(0.5)
        x = end if x > end else x
        x = -end if x < -end else x
        square = x * x
        above = square * f(-2.76076847742355e-16) + f(2.00018790482477e-13)
        above = square * above + f(-8.60467152213735e-11)
        above = square * above + f(5.12229709037114e-08)
        above = square * above + f(1.48572235717979e-05)
        above = square * above + f(6.37261928875436e-04)
        above = square * above + f(4.89352455891786e-03)
        below = square * f(1.19825839466702e-06) + f(1.18534705686654e-04)
        below = square * below + f(2.26843463243900e-03)
        below = square * below + f(4.89352518554385e-03)
        out[place] = f(0.5) + f(0.5) * (x * above / below)


@compiled
def _slope_of_entropy(sure, truth, inside, outside):
    """Turn probabilities into the slope of the cross entropy by the logit."""
    for place in range(len(sure)):
        weight = outside + (inside - outside) * truth[place]
        sure[place] = (sure[place] - truth[place]) * weight


@compiled
def _slope_of_reference(sure, truth, inside, outside):
    """Turn probabilities into the slope of the authors' loss by the logit."""
    for place in range(len(sure)):
        weight = outside - (inside + outside) * truth[place]
        sure[place] = sure[place] * (np.float32(1) - sure[place]) * weight


@compiled
def _unpack(masks, start, table, first, last, truth):
    """Read pixels `first` to `last` of a mask that begins at `start`; everything where it is -1."""
    if start < 0:
        truth[:] = 1
        return
    for byte in range(first // 8, (last + 7) // 8):
        row = masks[start + byte]
        for bit in range(8):
            truth[byte * 8 + bit] = table[row, bit]


@compiled
def learn(
    image, concept, mask, units, places, ends, masks, height, width, row_first, row_weight,
    column_first, column_weight, table, balance, rate, momentum, batch, reference,
    weights, speed, slope, seen, kept,
):  # fmt: skip
    """Learn from images (P,), one concept of each, in their order."""
    rows, columns = len(row_weight), len(column_weight)
    sums = np.zeros((height, width), np.float32)
    wide, back = np.zeros((height, columns), np.float32), np.zeros((height, columns), np.float32)
    value = np.zeros(rows * columns, np.float32)
    sure, truth = np.zeros_like(value), np.zeros(rows * columns + 8, np.float32)
    one = np.float32(1)
    for pair in range(len(image)):
        k, i = concept[pair], image[pair]
        first, last = _sum(i, k, units, places, ends, weights, kept, sums)
        if first >= 0:
            first = max(first - 1, 0)  # rows between the one above and the last are touched
            top, bottom = row_first[first] * columns, row_first[last + 1] * columns
            _unpack(masks, mask[pair], table, top, bottom, truth)
            _widen(sums, column_first, column_weight, wide)
            _heighten(wide, row_first, row_weight, first, last, value)
            inside = balance[k] if balance[k] > 0 else one
            outside = one - balance[k]
            _sigmoid(value[top:bottom], sure[top:bottom])
            if reference:
                _slope_of_reference(sure[top:bottom], truth[top:bottom], inside, outside)
            else:
                _slope_of_entropy(sure[top:bottom], truth[top:bottom], inside, outside)
            _flatten(sure, row_first, row_weight, first, last, back)
            _narrow(back, column_first, column_weight, sums)
            share = one if reference else one / np.float32(rows * columns)
            flat_sums = sums.ravel()
            for bit in range(ends[i], ends[i + 1]):
                slope[k, units[bit]] += flat_sums[places[bit]] * share
        seen[k] += 1
        if seen[k] == batch:
            step(weights, speed, slope, seen, kept, k, rate, momentum)


@compiled
def step(weights, speed, slope, seen, kept, concept, rate, momentum):
    """Take one concept's step from the slope over the images that it has seen since the last."""
    share = np.float32(1) / np.float32(seen[concept])
    for unit in range(weights.shape[1]):
        if kept[concept, unit]:
            now = momentum * speed[concept, unit] + slope[concept, unit] * share
            speed[concept, unit] = now
            weights[concept, unit] -= rate * now
        slope[concept, unit] = 0
    seen[concept] = 0


@compiled
def count_pixels(
    image, concept, mask, units, places, ends, masks, height, width, row_first, row_weight,
    column_first, column_weight, table, weights, apart, found,
):  # fmt: skip
    """Count pixels of each concept by truth and by how many cuts, `apart` from each other, they
    exceed.
    """
    rows, columns = len(row_weight), len(column_weight)
    cuts = found.shape[2] - 1
    sums = np.zeros((height, width), np.float32)
    wide = np.zeros((height, columns), np.float32)
    truth = np.zeros(rows * columns + 8, np.float32)
    value = np.zeros(columns, np.float32)
    kept = np.ones(weights.shape, np.bool_)
    for pair in range(len(image)):
        k, i = concept[pair], image[pair]
        _sum(i, k, units, places, ends, weights, kept, sums)
        _unpack(masks, mask[pair], table, 0, rows * columns, truth)
        _widen(sums, column_first, column_weight, wide)
        for y in range(height):
            below = min(y + 1, height - 1)
            for row in range(row_first[y], row_first[y + 1]):
                _between(wide[y], wide[below], row_weight[row], value)
                for column in range(columns):
                    beyond = 0
                    if value[column] > 0:
                        beyond = min(int(np.ceil(value[column] / apart)), cuts)
                    found[k, int(truth[row * columns + column]), beyond] += 1

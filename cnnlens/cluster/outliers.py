"""What a network predicts for images that belong to none of its classes (Dai 2020, §2.5, Table 1).

    found = outliers(model, {"birds": logits}, store, groups)
    found.noise.number, found.noise.bias.rank

Random images tend to fall to one class. Two guesses of the paper stand beside that class here: the
highest bias of the last layer, and the largest region. And clusters of representatives, which know
nothing of categories, are named after them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import numpy as np
import torch

from cnnlens.activations.passes import Forward
from cnnlens.cluster.regions import NOISES, Regions, find_regions, noise_images
from cnnlens.cluster.taken_for import Predicted, predicted_as
from cnnlens.cluster.vectors import Firsts, Groups, MapSource
from cnnlens.model.classes import class_bias, class_name
from cnnlens.model.ending import before_link, ending, may_be_probabilities
from cnnlens.model.model import Model
from cnnlens.model.two_sided import both_sides, side_names
from cnnlens.progress import Step, followed
from cnnlens.settings import OutlierSettings

FEW = 8  # classes up to which p-values of correlations are exact

Scores = list[tuple[str, np.ndarray]]  # by source, (N, K) each


@dataclass(frozen=True)
class Guess:
    """A value of every class, held against the shares of the noise."""

    values: np.ndarray | None  #: (K,), NaN where it is not known; None where it is of no class
    value: float | None  #: that of the class that noise falls to
    rank: int | None  #: its rank among those that are known, 1 for the largest
    known: int  #: of how many classes the value is known
    correlation: dict[str, float] | None  #: Spearman's, with its p-value: see `correlation`

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers, for JSON."""
        return {
            "value": self.value, "rank": self.rank, "known": self.known,
            "correlation": self.correlation,
        }  # fmt: skip


@dataclass(frozen=True)
class NoiseClass:
    """The class that noise falls to."""

    number: int  #: the class
    shares: np.ndarray  #: (K,): share of each class, mean over the kinds of noise
    score: float  #: mean score of the class on noise
    bias: Guess  #: of the last layer
    radius: Guess  #: of the class's region


@dataclass(frozen=True)
class Outliers:
    """What `outliers` finds.

    Attributes
    ----------
    predicted : tuple of Predicted
        Out-of-sample images first, then the kinds of noise.
    classes : sequence of str or None
        Names of the K classes; None where they are not known.
    noise : NoiseClass or None
        None without noise.
    regions : Regions or None
        None without known images.
    link : str
        What the network ends with (see `model.ending`).
    scores : mapping of str to numpy.ndarray
        (N, K) of each source behind that link; a single output is read as two classes.
    """

    predicted: tuple[Predicted, ...]
    classes: Sequence[str] | None
    noise: NoiseClass | None
    regions: Regions | None
    link: str = ""
    scores: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)

    @property
    def names(self) -> list[str]:
        """What to call each class: its name, else its number."""
        return [class_name(i, self.classes) for i in range(len(self.predicted[0].shares))]

    def as_dict(self, data: str = "") -> dict[str, Any]:
        """Return plain numbers and strings, for JSON; `data`: what the known images are called."""
        regions = self.regions.as_dict() if self.regions else None
        return {
            "sources": [self._source(one) for one in self.predicted],
            "noise": self._noise(self.noise) if self.noise else None,
            "regions": {"data": data, **regions} if regions and data else regions,
        }

    def notes(self) -> list[str]:
        """Say what a reader has to know."""
        why = self.regions.unclustered if self.regions else ""
        return [f"no clusters: {why}"] if why else []

    def _source(self, one: Predicted) -> dict[str, Any]:
        order = np.argsort(-one.shares, kind="stable")[:5]
        return {
            "source": one.source,
            "noise": one.source in NOISES,
            "images": one.images,
            "confidence": one.confidence,
            "shares": [float(share) for share in one.shares],
            "taken_for": [
                {"class": int(c), "name": self.names[c], "share": float(one.shares[c])}
                for c in order
                if one.shares[c] > 0
            ],
        }

    def _noise(self, noise: NoiseClass) -> dict[str, Any]:
        return {
            "class": noise.number,
            "name": self.names[noise.number],
            "share": float(noise.shares[noise.number]),
            "classes": len(noise.shares),
            "score": noise.score,
            "bias": noise.bias.as_dict(),
            "radius": noise.radius.as_dict(),
        }


def outliers(
    model: Model,
    logits: Mapping[str, np.ndarray],
    source: MapSource | None = None,
    groups: Groups | None = None,
    settings: OutlierSettings | None = None,
    *,
    batch_size: int = 32,
    progress: Callable[[Step], None] | None = None,
) -> Outliers:
    """See what out-of-sample images and noise are predicted as.

    Parameters
    ----------
    model : Model
        A classifier.
    logits : mapping of str to numpy.ndarray
        (N, K) as the network returns them, for the out-of-sample images of each source; may be
        empty.
    source, groups : MapSource, Groups, optional
        A layer's answers to images of the classes, (N, C, H, W), and their categories: regions and
        clusters are measured in them.
    settings : OutlierSettings, optional
        How much noise, and its seed.
    batch_size : int
        Images in the network at once.
    progress : callable, optional
        Told what begins.

    Returns
    -------
    Outliers
        Classes without names are called by their numbers; where there are as many categories, the
        regions are theirs in alphabetical order.

    Raises
    ------
    ValueError
        When there are neither images nor noise, or a source without its groups.
    """
    return followed(outlier_steps(model, logits, source, groups, settings, batch_size), progress)


def outlier_steps(
    model: Model,
    logits: Mapping[str, np.ndarray],
    source: MapSource | None = None,
    groups: Groups | None = None,
    settings: OutlierSettings | None = None,
    batch_size: int = 32,
    firsts: Firsts | None = None,
) -> Generator[Step, None, Outliers]:
    """Do what `outliers` does; each step says what begins. `firsts` says which images equal each
    other.
    """
    settings = settings or OutlierSettings()
    if not logits and not settings.noise:
        raise ValueError("neither scores of images nor noise to look at")
    if (source is None) != (groups is None):
        raise ValueError("a source of known images needs their groups, and the other way round")
    noise_scores = yield from _noises(model, settings, batch_size)
    scores = [*logits.items(), *noise_scores.items()]
    link = ending(model).link if all(may_be_probabilities(one) for _, one in scores) else ""
    outputs = scores[0][1].shape[1]
    scores, link, names = _as_classes(scores, link, model, groups)
    predicted = tuple(predicted_as(source, one, link) for source, one in scores)
    noises = predicted[len(logits) :]
    count = len(predicted[0].shares)
    regions = None
    if source is not None and groups is not None:
        yield Step(0, 1, "regions and clusters", unit="")
        regions = find_regions(source, groups, settings.seed, firsts)
    noise = None
    if noises:
        radius = regions.radius_of(names, count) if regions else None
        noise = _noise_class(noises, _bias(model, outputs), radius)
    return Outliers(predicted, names, noise, regions, link, dict(scores))


def _as_classes(
    scores: Scores, link: str, model: Model, groups: Groups | None
) -> tuple[Scores, str, Sequence[str] | None]:
    """Read a single output as two classes; others are as they are."""
    if scores[0][1].shape[1] != 1:
        return scores, link, model.classes
    found = [
        (source, both_sides(torch.from_numpy(before_link(one, link))).numpy())
        for source, one in scores
    ]
    return found, "", side_names(model.classes, groups.names if groups else ())


def _noises(
    model: Model, settings: OutlierSettings, batch_size: int
) -> Generator[Step, None, dict[str, np.ndarray]]:
    """Scores (N, K) of every kind of noise."""
    if not settings.noise:
        return {}
    shape = (settings.noise, model.preprocess.channels, *model.preprocess.size)
    forward = Forward(model, [], logits=True, limit=batch_size)
    found = {}
    for number, kind in enumerate(NOISES):
        yield Step(number, len(NOISES), "noise", note=kind, unit="kinds")
        _, logits = forward(torch.from_numpy(noise_images(kind, shape, settings.seed)))
        assert logits is not None
        found[kind] = logits
    yield Step(len(NOISES), len(NOISES), "noise", unit="kinds")
    return found


def _bias(model: Model, outputs: int) -> np.ndarray | None:
    found = class_bias(model, outputs)
    return None if found is None else both_sides(found[None])[0].numpy().astype(float)


def _noise_class(
    noises: Sequence[Predicted], bias: np.ndarray | None, radius: np.ndarray | None
) -> NoiseClass:
    """The class that noise falls to, against its bias and its region's radius."""
    shares = np.mean([one.shares for one in noises], axis=0)
    first = int(shares.argmax())
    score = float(np.mean([one.logits for one in noises], axis=0)[first])
    return NoiseClass(
        first, shares, score, _guess(bias, shares, first), _guess(radius, shares, first)
    )


def _guess(values: np.ndarray | None, shares: np.ndarray, first: int) -> Guess:
    if values is None:
        return Guess(None, None, None, 0, None)
    known = np.isfinite(values)
    value = float(values[first]) if known[first] else None
    over = correlation(shares, values)
    return Guess(values, value, rank_of(values, first), int(known.sum()), over)


def rank_of(values: Sequence[float] | np.ndarray, number: int) -> int | None:
    """Rank of one value among those that are known, 1 for the largest; None where it is not."""
    array = np.asarray(values, float)
    if not np.isfinite(array[number]):
        return None
    return int((array > array[number]).sum()) + 1


def correlation(a: np.ndarray, b: np.ndarray) -> dict[str, float] | None:
    """Spearman's correlation with its p-value, over where both are known; None where undefined.

    Of few classes the p-value is exact, of all orders of these.
    """
    from scipy.stats import rankdata, spearmanr

    known = np.isfinite(a) & np.isfinite(b)
    if known.sum() < 4 or np.ptp(a[known]) == 0 or np.ptp(b[known]) == 0:
        return None
    found = spearmanr(a[known], b[known])
    p = float(found.pvalue)
    if known.sum() <= FEW:
        p = _p_of_all_orders(rankdata(a[known]), rankdata(b[known]))
    return {"rho": float(found.statistic), "p_value": p}


def _p_of_all_orders(a: np.ndarray, b: np.ndarray) -> float:
    """Share of all orders of `b` (K,) that correlate as strongly with `a`, either way."""
    apart = b - b.mean()
    orders = np.array(list(permutations(range(len(b)))))
    drawn = np.abs(apart[orders] @ (a - a.mean()))
    return float((drawn >= drawn[0] - 1e-9).mean())  # the first order is theirs

"""Names for units without label maps: a unit's activation as a sparse sum of concepts.

A unit's activation per image, its spatial mean or its peak, is approximated by a sum of few
concepts with weights that are not negative (Oikarinen & Weng 2024, Linear Explanations). The images
are parted in three: `fit` gives the weights, `choose` decides how many concepts a sum has, and
`held` alone says how well the name fits. A concept is a column with one score per image; of class
folders, 1 for the images of a class or a group of classes and 0 for the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cnnlens.errors import CnnlensError, counted

_PENALTY, _MIX = 0.05, 0.99  # of the elastic net that picks candidates
_MOST = 30  # candidates of a unit
_FIT, _CHOOSE = 0.4, 0.3  # shares of the images; the rest is held out
_LEAST = 8  # images in each of the three parts


@dataclass(frozen=True)
class Parts:
    """Which images do what: row numbers, ascending."""

    fit: np.ndarray
    choose: np.ndarray
    held: np.ndarray


@dataclass(frozen=True)
class Label:
    """A unit's name.

    Attributes
    ----------
    terms : tuple of (int, float)
        Concepts and their weights, in standard deviations of the unit; the heaviest first. Empty
        where no concept rises with the unit.
    score : float or None
        Pearson's correlation of the sum with the unit on held-out images; None where either is
        constant there.
    single, single_score : int, float or None
        The one concept that fits best on the other images, -1 where none does, and its correlation
        on those held out.
    runner_up, runner_up_score : int, float or None
        The next best one.
    """

    terms: tuple[tuple[int, float], ...]
    score: float | None
    single: int
    single_score: float | None
    runner_up: int
    runner_up_score: float | None


def split(images: int, seed: int) -> Parts:
    """Part images in those that fit, choose and are held out, by chance.

    Raises
    ------
    CnnlensError
        When a part would have fewer than 8.
    """
    order = np.random.default_rng(seed).permutation(images)
    first, second = round(_FIT * images), round((_FIT + _CHOOSE) * images)
    parts = Parts(*map(np.sort, np.split(order, [first, second])))
    if min(map(len, (parts.fit, parts.choose, parts.held))) < _LEAST:
        raise CnnlensError(
            f"{counted(images, 'image')}: too few to choose names on some and test them on others",
            f"give {_LEAST * 4} or more",
        )
    return parts


def class_concepts(
    categories: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> tuple[list[str], np.ndarray]:
    """Name every class and every group of classes; say which images are of it.

    Parameters
    ----------
    categories : sequence of str
        Of each image.
    groups : mapping of str to sequence of str
        Classes of each group; one that holds the same images as an earlier concept is left out.

    Returns
    -------
    list of str, numpy.ndarray
        The names, and (N, K) float32 of 0 and 1.
    """
    classes = sorted(set(categories))
    own = np.array([classes.index(name) for name in categories])
    sets = {name: {at} for at, name in enumerate(classes)}
    for name, members in groups.items():
        among = {classes.index(member) for member in members if member in classes}
        if len(among) not in (0, len(classes)) and among not in sets.values():
            sets[name] = among
    member = np.array([[at in among for among in sets.values()] for at in range(len(classes))])
    return list(sets), member[own].astype(np.float32)  # (N, K)


class Search:
    """The search for labels over one set of concepts.

    Parameters
    ----------
    concepts : numpy.ndarray
        (N, K) float, a score per image and concept.
    parts : Parts
        Which images do what.
    terms : int
        Concepts a label has at most.
    beam : int
        Sums that are followed at once.
    gain : float
        By how much another concept must raise the correlation on the images that choose.
    """

    def __init__(
        self, concepts: np.ndarray, parts: Parts, terms: int = 4, beam: int = 10, gain: float = 0.02
    ) -> None:
        self.parts, self.terms, self.beam, self.gain = parts, terms, beam, gain
        self._concepts = concepts
        self._fit, self._spread = standard(concepts[parts.fit]), concepts[parts.fit].std(axis=0)
        others = concepts[parts.choose] - concepts[parts.choose].mean(axis=0)
        self._choose = others / np.where(self._spread > 0, self._spread, np.inf)  # as they are fit
        self._gram = self._fit.T @ self._fit / len(parts.fit)  # (K, K) correlations
        self._choice = self._choose.T @ self._choose / len(parts.choose)

    def label(self, unit: np.ndarray) -> Label:
        """Name a unit of values (N,)."""
        fit, choose = (standard(unit[at]) for at in (self.parts.fit, self.parts.choose))
        rising = self._fit.T @ fit / len(fit)  # (K,) correlations
        chosen = self._choose.T @ choose / len(choose)
        length = np.sqrt(np.diag(self._choice))
        apart = np.where(length > 0, rising + chosen / np.where(length > 0, length, 1), -np.inf)
        single, after = self._singles(apart)
        terms = self._greedy(self._candidates(rising), rising, chosen)
        weights = self._weights(np.array([terms]), rising)[0] if terms else np.zeros(0)
        whole = [(at, float(w / self._spread[at])) for at, w in zip(terms, weights, strict=True)]
        held = unit[self.parts.held]
        return Label(
            tuple(sorted(whole, key=lambda term: -term[1] * self._spread[term[0]])),
            correlation(self.predict(whole), held) if whole else None,
            single,
            self._alone(single, held),
            after,
            self._alone(after, held),
        )

    def predict(self, terms: Sequence[tuple[int, float]]) -> np.ndarray:
        """Return the sum of some concepts on the images that are held out, (n,)."""
        columns, weights = zip(*terms, strict=True)
        found: np.ndarray = self._concepts[np.ix_(self.parts.held, columns)] @ np.array(weights)
        return found

    def _alone(self, concept: int, held: np.ndarray) -> float | None:
        return None if concept < 0 else correlation(self.predict([(concept, 1.0)]), held)

    def _singles(self, apart: np.ndarray) -> tuple[int, int]:
        """The best concept and the next, by the images that fit and choose; -1 where none rises."""
        order = np.argsort(-apart, kind="stable")[:2]
        best = [int(at) if apart[at] > 0 else -1 for at in order]
        return best[0], best[1] if len(best) > 1 else -1

    def _candidates(self, rising: np.ndarray) -> list[int]:
        """Concepts that an elastic net gives weight, the heaviest first."""
        weights = elastic_net(self._gram, rising)
        order = np.argsort(-weights, kind="stable")[:_MOST]
        return [int(at) for at in order if weights[at] > 0 and self._spread[at] > 0]

    def _greedy(
        self, candidates: Sequence[int], rising: np.ndarray, chosen: np.ndarray
    ) -> tuple[int, ...]:
        """Add concepts for as long as the images that choose say that it pays."""
        best: tuple[int, ...] = ()
        reached, beams = 0.0, [best]
        for _ in range(self.terms):
            longer = {tuple(sorted((*of, at))) for of in beams for at in candidates if at not in of}
            if not longer:
                break
            sums = sorted(longer)
            agrees = self._agreement(np.array(sums), rising, chosen)
            order = np.argsort(-agrees, kind="stable")[: self.beam]
            highest = float(agrees[order[0]])
            if not highest > 0 or highest - reached < (self.gain if best else 0):
                break
            reached, best = highest, sums[order[0]]
            beams = [sums[at] for at in order if agrees[at] > 0]
        return best

    def _weights(self, sums: np.ndarray, rising: np.ndarray) -> np.ndarray:
        """Fit the weights (S, t) of sums of the concepts (S, t)."""
        gram = self._gram[sums[:, :, None], sums[:, None, :]]  # (S, t, t)
        inverse = np.linalg.pinv(gram, hermitian=True, rcond=1e-6)
        found: np.ndarray = (inverse @ rising[sums][:, :, None])[:, :, 0]
        return found

    def _agreement(self, sums: np.ndarray, rising: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Correlations (S,) of fitted sums (S, t) on the images that choose.

        -inf where a weight is not above 0: its best weights would leave that concept out, and the
        sum is among the shorter ones.
        """
        weights = self._weights(sums, rising)
        gram = self._choice[sums[:, :, None], sums[:, None, :]]
        length = np.sqrt(np.einsum("st,stu,su->s", weights, gram, weights).clip(1e-12))
        agrees = (weights * chosen[sums]).sum(axis=1) / length
        return np.where((weights > 1e-6).all(axis=1) & (length > 1e-5), agrees, -np.inf)


def standard(values: np.ndarray) -> np.ndarray:
    """Bring columns to mean 0 and deviation 1; constant ones to 0."""
    centred = values - values.mean(axis=0)
    spread = centred.std(axis=0)
    found: np.ndarray = centred / np.where(spread > 1e-12, spread, np.inf)
    return found


def correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    """Pearson's correlation; None where either is constant."""
    a, b = standard(one), standard(other)
    return float(a @ b / len(a)) if a.any() and b.any() else None


def elastic_net(gram: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Minimize ½ wᵀGw − tᵀw + λα·Σw + ½ λ(1 − α)·Σw² over w ≥ 0, of correlations G and t."""
    from sklearn.linear_model import enet_path

    # of the images themselves it wants their number, which correlations are free of, and the unit's
    # variance, which is 1
    shape, g, t = np.zeros((1, len(gram))), gram.astype(np.float64), target.astype(np.float64)
    _, weights, _ = enet_path(
        shape, np.ones(1), l1_ratio=_MIX, alphas=[_PENALTY], precompute=g, Xy=t, positive=True,
        check_input=False, max_iter=20_000,
        random_state=0,  # unused: without one it draws from NumPy's global state
    )  # fmt: skip
    found: np.ndarray = weights[:, 0]
    return found

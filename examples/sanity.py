"""Which scores of labels notice that a label is half wrong: ``python examples/sanity.py``.

A unit follows a concept. Its label is then spoilt: half of the images that show the concept are
missing from it, or as many other images are taken in. A score is worth something where it falls in
both cases, by a fifth at least of what the true label has over one whose images are shuffled.

The tests of Oikarinen, Yan & Weng, "Evaluating Neuron Explanations: A Unified Framework with Sanity
Checks", ICML 2025, on units planted here; `cnnlens exam` offers scores that pass.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.metrics import balanced_accuracy_score, precision_score, recall_score, roc_auc_score

from cnnlens.measure.exam_scores import SCORES, Answers, best_cut, scores

IMAGES, UNITS, SHARE, NOISE = 5000, 10, 0.02, 0.1
LEAST = 0.2  # what a label that is half wrong must lose
Score = Callable[[np.ndarray, np.ndarray, np.ndarray], float]  # values, label, whether it fires


def ours(number: int) -> Score:
    return lambda v, c, f: float(scores(Answers(v, c.astype(float), c, f))[0, number])


def mean_difference(values: np.ndarray, label: np.ndarray, fires: np.ndarray) -> float:
    return float((values[label].mean() - values[~label].mean()) / values.std())


def wpmi(values: np.ndarray, label: np.ndarray, fires: np.ndarray) -> float:
    probability = np.where(label, 0.999, 0.001)
    return float(np.log(probability[fires]).mean() - np.log(probability.mean()))


ALL: dict[str, Score] = {
    **{name: ours(number) for number, name in enumerate(SCORES)},
    "recall": lambda v, c, f: recall_score(c, f),
    "precision": lambda v, c, f: precision_score(c, f, zero_division=0),
    "balanced accuracy": lambda v, c, f: balanced_accuracy_score(c, f),
    "AUC": lambda v, c, f: roc_auc_score(c, v),
    "MAD": mean_difference,
    "WPMI": wpmi,
}


def lost(score: Score, rng: np.random.Generator) -> tuple[float, float]:
    """What one unit's score loses by images that are missing, and by others that are too many."""
    label = rng.random(IMAGES) < SHARE
    values = label + rng.normal(0, NOISE, IMAGES)
    fires = values >= best_cut(values, label)
    shown, others = np.flatnonzero(label), np.flatnonzero(~label)
    missing, extra = label.copy(), label.copy()
    missing[rng.choice(shown, len(shown) // 2, replace=False)] = False
    extra[rng.choice(others, len(shown), replace=False)] = True
    true = score(values, label, fires)
    over = true - score(values, rng.permutation(label), fires)
    return tuple((true - score(values, spoilt, fires)) / over for spoilt in (missing, extra))


def main() -> None:
    print(f"{'score':<20}{'half missing':>14}{'twice as many':>15}   of what it has over chance")
    for name, score in ALL.items():
        found = np.array([lost(score, np.random.default_rng(unit)) for unit in range(UNITS)])
        passes = (found >= LEAST).mean(axis=0) >= 0.9  # on nine units of ten
        shown = [f"{-share:+.0%}" for share in found.mean(axis=0)]
        verdict = "passes" if passes.all() else "fails"
        print(f"{name.replace('_', ' '):<20}{shown[0]:>14}{shown[1]:>15}   {verdict}")


if __name__ == "__main__":
    main()

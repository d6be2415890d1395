"""What the images of one source are predicted as: a folder of strangers, or a kind of noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnlens.model.classes import before_softmax
from cnnlens.model.ending import SIGMOID


@dataclass(frozen=True)
class Predicted:
    """What the images of one source are predicted as."""

    source: str  #: a category of the out-of-sample images, or a kind of noise
    images: int  #: how many
    shares: np.ndarray  #: (K,): share of them predicted as each class
    confidence: float  #: mean probability of the predicted class
    logits: np.ndarray  #: (K,): mean scores

    @property
    def first(self) -> int:
        """The class that most of them are predicted as."""
        return int(self.shares.argmax())


def predicted_as(source: str, logits: np.ndarray, link: str = "") -> Predicted:
    """Sum up what images are predicted as, from their scores (N, K) behind a `link`, if any."""
    if logits.ndim != 2 or not len(logits):
        raise ValueError(f"scores (N, K), not {logits.shape}")
    confidence = _surenesses(logits, link)
    shares = np.bincount(logits.argmax(1), minlength=logits.shape[1]) / len(logits)
    return Predicted(source, len(logits), shares, float(confidence.mean()), logits.mean(0))


def _surenesses(scores: np.ndarray, link: str) -> np.ndarray:
    """The highest probability of each row (N,) of scores (N, K), as the network returns them."""
    if link == SIGMOID:
        return scores.max(1)
    scores = before_softmax(scores).astype(np.float64)
    shares: np.ndarray = 1 / np.exp(scores - scores.max(1, keepdims=True)).sum(1)  # exp(0) over it
    return shares


def surest(
    logits: Mapping[str, np.ndarray],
    rows: Mapping[str, np.ndarray],
    names: Sequence[str],
    most: int = 24,
    link: str = "",
) -> list[dict[str, Any]]:
    """List the images that a network is surest of, though they belong to none of its classes.

    Parameters
    ----------
    logits, rows : mapping of str to numpy.ndarray
        By source: scores (N, K), and the images' positions (N,).
    names : sequence of str
        Of the classes.
    most : int
        How many.
    link : str
        What the network ends with: `Outliers.link`.

    Returns
    -------
    list of dict
        ``row, source, class, name, probability``, the surest first.
    """
    found = []
    for source, scores in logits.items():
        sure, said = _surenesses(scores, link), scores.argmax(axis=1)
        found += [
            {"row": int(row), "source": source, "class": int(number), "name": names[number],
             "probability": float(share)}
            for row, number, share in zip(rows[source], said, sure, strict=True)
        ]  # fmt: skip
    return sorted(found, key=lambda one: (-one["probability"], one["row"]))[:most]


SOURCE_COLUMNS = ("images of", "how many", "predicted as", "confidence")


def source_row(one: Mapping[str, Any]) -> list[object]:
    """Give the row under `SOURCE_COLUMNS` of one of the "sources" of `Outliers.as_dict`."""
    named = (f"{found['name']} {found['share']:.0%}" for found in one["taken_for"][:3])
    return [one["source"], one["images"], ", ".join(named), round(one["confidence"], 3)]

"""The exam of names from words: held against classes or label maps where these tell of the words,
else against what the encoder says of images that chose nothing.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cnnlens.activations.sources import Source
from cnnlens.data.broden import Broden
from cnnlens.data.dataset import ImageSet
from cnnlens.data.word_vectors import WordVectors
from cnnlens.measure.exam import Exam, Sheet, examine
from cnnlens.measure.exam_maps import MapTruth, concept_names
from cnnlens.measure.exam_papers import Given, claims_of
from cnnlens.measure.exam_truth import ENCODER, Truth, class_truth
from cnnlens.measure.linear_labels import Parts, class_concepts, split
from cnnlens.measure.meaning import Meaning
from cnnlens.measure.planted import Planted, noisy
from cnnlens.measure.text_labels import Words, text_label_steps
from cnnlens.measure.unit_labels import responses
from cnnlens.progress import Step
from cnnlens.settings.exam import ExamSettings
from cnnlens.settings.label import LabelSettings, TextSettings

_PLANTED = {"scale": 2.0, "offset": 1.0}  # a word is there from a deviation above its mean on


@dataclass(frozen=True)
class WordPaper:
    """Names from words, on the images that `label` held out.

    Attributes
    ----------
    images : ImageSet
        Those that the names were made on; of any kind.
    vectors : WordVectors
        Of them and of the words.
    naming, text : LabelSettings, TextSettings
        How `label` names units: which images choose, too.
    settings : ExamSettings
        Of the exam.
    """

    images: ImageSet
    vectors: WordVectors
    naming: LabelSettings
    text: TextSettings
    settings: ExamSettings

    @property
    def known(self) -> Mapping[str, str]:
        """The words."""
        return {name: name for name in self.vectors.names}

    @cached_property
    def _told(self) -> dict[str, str]:
        """What the data itself tells of: its concepts by their names in lower case."""
        if isinstance(self.images, Broden):
            return {name.casefold(): of for name, of in concept_names(self.images).items()}
        return {name.casefold(): name for name in self.images.image_categories or ()}

    def steps(
        self, source: Source, given: Sequence[Given] | None = None
    ) -> Generator[Step, None, Sheet]:
        """Examine the labels given, or those that `label` chooses."""
        if given is None:
            naming = replace(self.naming, chance=0)
            found = yield from text_label_steps(source, self.vectors, naming, self.text)
            given = [Given(row.unit, row.label, "", row.terms) for row in found.rows]
        response = self.naming.response
        values, at = yield from responses(source, len(self.images.paths), response)
        readable = self.vectors.images[at].any(axis=1)
        values, positions = values[readable], at[readable]
        parts = split(len(values), self.naming.seed)
        claims, left = claims_of(given, self.known)
        meanings = list(dict.fromkeys(claim.meaning for claim in claims))
        truth = yield from self._truth(meanings, values, positions, parts)
        exam = Exam(values, truth, parts, self.settings)
        return (yield from examine(exam, claims, left_out=left, iou_of="images"))

    def _truth(
        self, meanings: list[Meaning], values: np.ndarray, positions: np.ndarray, parts: Parts
    ) -> Generator[Step, None, Truth]:
        """Say where labels are there: what the data tells counts before what the encoder says."""
        words = Words(self.vectors.images[positions], self.vectors.words, parts)
        if self.text.method == "linear":
            words = words.fitted(values)
        truth = word_truth(meanings, words, self.vectors.names)
        told = [at for at, one in enumerate(meanings) if self._tells(one)]
        if told:
            renamed = [self._renamed(meanings[at]) for at in told]
            own = yield from self._data_truth(renamed, positions)
            truth.amount[:, told], truth.shows[:, told] = own.amount, own.shows
            truth = replace(truth, told_by=_placed(truth.told_by, told, own.told_by))
        return truth

    def _tells(self, meaning: Meaning) -> bool:
        return all(name.casefold() in self._told for name in meaning.concepts)

    def _renamed(self, meaning: Meaning) -> Meaning:
        return Meaning(tuple((self._told[name.casefold()], w) for name, w in meaning.terms))

    def _data_truth(
        self, meanings: list[Meaning], positions: np.ndarray
    ) -> Generator[Step, None, Truth]:
        if isinstance(self.images, Broden):
            maps = MapTruth(self.images, meanings)
            yield from maps.steps(positions, np.zeros(0, np.int64))
            return maps.truth
        categories = self.images.image_categories or ()
        names, concepts = class_concepts([categories[at] for at in positions.tolist()], {})
        return class_truth(meanings, names, concepts)

    def plant(self, positions: np.ndarray, extent: tuple[int, int]) -> Planted:
        """Make units of one word or, every second, the sum of two, of one position each."""
        rng = np.random.default_rng((self.settings.seed, 5))
        positions = positions[self.vectors.images[positions].any(axis=1)]
        names, count = self.vectors.names, self.settings.planted
        drawn = [rng.choice(len(names), 1 + unit % 2, replace=False) for unit in range(count)]
        meanings = [Meaning(tuple((names[at], 1.0) for at in one.tolist())) for one in drawn]
        parts = split(len(positions), self.naming.seed)
        words = Words(self.vectors.images[positions], self.vectors.words, parts, **_PLANTED)
        signal = word_truth(meanings, words, names).amount[:, :, None, None]  # (n, P, 1, 1)
        return Planted(meanings, positions, noisy(signal, self.settings.signal, rng))


def word_truth(meanings: Sequence[Meaning], words: Words, names: Sequence[str]) -> Truth:
    """Say how much labels are there, by how well their words agree with n images.

    An encoder gives degrees: from which one on a word is there, nobody knows.
    """
    column = {name: at for at, name in enumerate(names)}
    used = sorted({column[name] for one in meanings for name in one.concepts})
    rows = np.arange(len(words.images))
    scores = words.scores(rows, np.array(used, np.int64))  # (n, k)
    weights = np.zeros((len(used), len(meanings)))
    place = {at: row for row, at in enumerate(used)}
    for at, one in enumerate(meanings):
        for name, weight in one.terms:
            weights[place[column[name]], at] += weight
    amount = (scores @ weights).astype(np.float32)  # (n, D)
    return Truth(list(meanings), amount, np.zeros(amount.shape, bool), [ENCODER] * len(meanings))


def _placed(old: Sequence[str], at: Sequence[int], new: Sequence[str]) -> list[str]:
    """Put new entries into a list at some places."""
    fresh = dict(zip(at, new, strict=True))
    return [fresh.get(place, one) for place, one in enumerate(old)]

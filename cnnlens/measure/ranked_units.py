"""Which units of a layer matter to a class: those without which its score falls most on its images.

Of few units each is taken out; of many, those that matter most by the gradient.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from cnnlens.data.batches import batches
from cnnlens.data.dataset import ImageSet
from cnnlens.errors import CnnlensError
from cnnlens.measure.changed_classes import Answers
from cnnlens.measure.without import Asker, Change, Removed
from cnnlens.model.classes import class_scores
from cnnlens.model.gradients import CUT, with_gradients
from cnnlens.model.hooks import read_live
from cnnlens.model.layer import Layer
from cnnlens.model.model import Model
from cnnlens.model.restart import named_place
from cnnlens.model.trace import Place
from cnnlens.progress import Step
from cnnlens.settings import RunSettings
from cnnlens.settings.ablate import AblateSettings

EXACT = 256  # units up to which each is taken out to rank them
_MORE = 4  # else so many times the largest set are, of those that matter most by the gradient


@dataclass
class Questions:
    """A network, its images with the outputs that are right, a layer, and how it is asked."""

    model: Model
    images: ImageSet
    layer: Layer
    units: list[int]
    settings: AblateSettings
    run: RunSettings
    asker: Asker
    wanted: dict[int, int] = field(default_factory=dict)  # position: output

    def answers(
        self, rows: Sequence[int], changes: Sequence[Change], stage: str
    ) -> Generator[Step, None, Answers]:
        """Ask about images, at their positions, with every change."""
        found = Answers(rows, [self.wanted[row] for row in rows], len(changes))
        done, total = 0, len(rows) * len(changes)
        for positions, start, scores, first in self.asker.over(
            self.images, rows, changes, self.run
        ):
            found.take(positions, start, scores, first)
            done += scores.shape[0] * scores.shape[1]
            yield Step(done, total, stage, unit="passes")
        return found


def ranked(
    questions: Questions, rows: Sequence[int], to: Tensor, sizes: Sequence[int]
) -> Generator[Step, None, dict[int, list[int]]]:
    """Rank units for every class, by output: how much its score falls without each."""
    outputs = sorted({questions.wanted[row] for row in rows})
    if len(questions.units) < 2:
        return dict.fromkeys(outputs, questions.units) if questions.units else {}
    if len(questions.units) <= EXACT:
        falls = yield from _falls(questions, rows, questions.units, to)
        return {one: _order(questions.units, falls[one]) for one in outputs}
    guessed = yield from _guessed(questions, rows, to)
    best = {}
    for output in outputs:
        own = [row for row in rows if questions.wanted[row] == output]
        likely = _order(questions.units, guessed[output])[: _MORE * sizes[-1]]
        falls = yield from _falls(questions, own, likely, to)
        best[output] = _order(likely, falls[output])
    return best


def _order(units: Sequence[int], falls: np.ndarray) -> list[int]:
    return [units[at] for at in np.argsort(-falls, kind="stable")]


def _falls(
    questions: Questions, rows: Sequence[int], units: Sequence[int], to: Tensor
) -> Generator[Step, None, dict[int, np.ndarray]]:
    """Mean drop of each class's score on its images without each unit, (units,) by output."""
    changes = [Removed((unit,), to) for unit in units]
    answers = yield from questions.answers(rows, changes, "ranking units")
    wanted = answers.wanted
    return {
        one: -answers.change[:, wanted == one].mean(axis=1) for one in np.unique(wanted).tolist()
    }


@with_gradients
def _guessed(
    questions: Questions, rows: Sequence[int], to: Tensor
) -> Generator[Step, None, dict[int, np.ndarray]]:
    """Mean of gradient × (a − what stands in for it), (units,) by output: the first order of it."""
    sums: dict[int, np.ndarray] = {}
    counts: dict[int, int] = {}
    model, size = questions.model, questions.asker.size
    with model.in_use():
        for batch in batches(
            questions.images, model.preprocess,
            batch_size=size, workers=questions.run.workers, indices=rows,
        ):  # fmt: skip
            x = model.preprocess.normalize(batch.pixels.to(model.device))
            if model.batch:
                x = torch.cat([x, x[-1:].expand(model.batch - len(x), -1, -1, -1)])
            outputs = [questions.wanted[int(row)] for row in batch.indices]
            share = _first_order(questions.asker, x, outputs, to)  # (n, C)
            for output, values in zip(outputs, share[:, questions.units], strict=True):
                sums[output] = sums.get(output, 0) + values.astype(np.float64)
                counts[output] = counts.get(output, 0) + 1
            yield Step(batch.next, len(rows), "gradients")
    return {output: values / counts[output] for output, values in sums.items()}


def _first_order(asker: Asker, x: Tensor, outputs: Sequence[int], to: Tensor) -> np.ndarray:
    """Gradient of each image's own score by the layer's maps, times (a − `to`): (n, C)."""
    place, places = asker.layer.place, [asker.layer.place]
    places += [asker.scores_at] if asker.scores_at else []
    lives, output = read_live(asker.model.net, x.detach().requires_grad_(), places, stop=False)
    of = lives[1].edge if asker.scores_at else class_scores(output, len(x), asker.model.head)
    seed = torch.zeros_like(lives[1].value if asker.scores_at else of)  # type: ignore[arg-type]
    for row, number in zip(seed.view(len(x), -1), outputs, strict=False):
        row[number if len(row) > 1 else 0] = 1 if number or len(row) > 1 else -1  # see `two`
    if of is None or lives[0].edge is None or (isinstance(of, Tensor) and not of.requires_grad):
        raise _no_gradient(place)
    (gradient,) = torch.autograd.grad(of, [lives[0].edge], [seed], allow_unused=True)
    if gradient is None:
        raise _no_gradient(place)
    share = place.as_maps(gradient.float()) * (place.as_maps(lives[0].value) - to)
    found: np.ndarray = share.sum(dim=(2, 3))[: len(outputs)].cpu().numpy()
    return found


def _no_gradient(place: Place) -> CnnlensError:
    """Say that a place is not on the way to the classes, as far as gradients tell."""
    return CnnlensError(
        f"no gradient leads from the class scores to {named_place(place)}: they do not depend on "
        f"it, or {CUT}",
        f"name a layer on the way to the classes, or with -f up to {EXACT} of its units: these are "
        "ranked without gradients",
    )

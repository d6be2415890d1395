"""How pictures climb: optimized some at a time, kept where they are meanwhile and when they are
finished; what came to nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any

from cnnlens.errors import CnnlensError, counted, plain
from cnnlens.files.begun import Begun
from cnnlens.files.ledger import Item
from cnnlens.methods.ascents import Ascents
from cnnlens.methods.pictured import Pictured
from cnnlens.methods.priors import Nothing
from cnnlens.progress import Step, Words

if TYPE_CHECKING:
    import numpy as np

    from cnnlens.synthesize.goals import Goal
    from cnnlens.synthesize.visualize import Picture, PictureStep

_MORE = "more --steps or --contrast may help, or --init IMAGE"
_MORE_CODES = "more --steps or a higher --lr may help, or a generator that has learned longer"
_NAMED = 5  # pictures of classes that are taken for others
KEPT_EVERY = 32  # steps after which the state of an ascent is kept


class Climbing(Pictured):
    """A method whose pictures are optimized: `Ascents`, by what its settings say."""

    part_type = Ascents
    photo: np.ndarray | None  # that is started from; None: noise
    prior: Nothing  # what pictures take from photos

    def optimize(self) -> Iterator[Step]:
        """Make the pictures; one bar for the whole request counts the steps of all."""
        steps, count, done = self.settings.climb, sum(len(part.todo) for part in self.parts), 0
        yield Step(0, count * steps, "optimizing", unit="steps")
        for part in self.parts:
            for unfinished in part.rounds:
                for batch, state in unfinished.batches(self.study.run.batch_size):
                    which = _which(done, len(batch), count)
                    for step in self._ascend(part, unfinished, batch, state):
                        now, note = done * steps + step.done, _worded(which, step)
                        yield Step(now, count * steps, "optimizing", note=note, unit="steps")
                    done += len(batch)

    def _ascend(
        self,
        part: Ascents,
        unfinished: Begun,
        batch: list[Item],
        state: dict[str, Any] | None,
    ) -> Iterator[PictureStep]:
        """Optimize some pictures together; keep where they are, and each that is finished."""
        from cnnlens.synthesize.visualize import visualize

        goals: list[Goal] = [item.subject for item in batch]
        objectives = [part.objective(goal, self.study.model) for goal in goals]
        activations = [goal.activation for goal in goals]
        model, run = self.study.model, self.study.run
        steps = visualize(
            model, objectives, self.settings, run, self.photo, activations, state, self.prior.value
        )
        with closing(steps):
            for step in steps:
                if step.state is not None and step.number % KEPT_EVERY == 0:
                    unfinished.keep(batch, step.state())
                for item, picture in zip(batch, step.pictures, strict=False):  # only at the end
                    self._keep(part, item, picture)
                yield step
        unfinished.remove()

    def _keep(self, part: Ascents, item: Item, picture: Picture) -> None:
        """Write a finished picture and list it; a unit that nothing reaches has none."""
        import numpy as np

        from cnnlens.files import write_npz
        from cnnlens.model.classes import class_name
        from cnnlens.report.figures.visualize import as_picture
        from cnnlens.report.sheet import save_png

        goal: Goal = item.subject
        if self.asked.several > 1:
            part.images[goal.name] = picture.image
        if not picture.alive:
            part.unreachable.append(goal.name)
            return
        if reason := self._failure(part, goal, picture):
            part.failed[goal.name] = reason
            return
        part.ledger.begin(item)
        save_png(part.file(item), as_picture(picture.image, picture.opacity))
        if self.asked.raw:
            write_npz(part.file(item, ".npz"), image=picture.image.astype(np.float32))
        about = {"file": item.name, "layer": part.name, **goal.about}
        if picture.answer is not None and picture.answer != goal.about["class_index"]:
            part.mistaken[goal.name] = class_name(picture.answer, self.study.model.classes)
            about["taken_for"] = part.mistaken[goal.name]
        part.ledger.keep(item, about | picture.as_dict())

    def _failure(self, part: Ascents, goal: Goal, picture: Picture) -> str:
        """Say why a picture does not show what it was made for; empty where it does."""
        if self.photo is not None or goal.about["unit"] is None:
            return ""  # what is shown is the way from the photo; or there is no unit that sleeps
        # only what was made large anywhere on the map can be held against peaks on photos
        anywhere = self.settings.target in ("map", "max") and "position" not in goal.about
        best_counts = self.settings.method != "generator"  # which keeps to what photos can show
        return part.failure(goal, picture, anywhere and best_counts)

    def check_reached(self) -> None:
        """Say what has no picture; raise where nothing has one that was asked for."""
        asked = sum(len(part.items) for part in self.parts)
        weak = {f"{p.name}:{name}": why for p in self.parts for name, why in p.failed.items()}
        lost = [f"{part.name}:{name}" for part in self.parts for name in part.unreachable]
        nothing = asked > 0 and len(weak) + len(lost) == asked
        for name, reason in weak.items() if not (nothing and len(weak) == 1) else ():
            self.study.voice.note(f"{name} {reason}: no picture of it is kept; {self._more}")
        for name in lost:
            self.study.voice.note(f"{name} gets no gradient from the input: no picture")
        if nothing and lost:
            from cnnlens.model.gradients import CUT

            raise CnnlensError(
                f"{', '.join(lost[:5])} cannot be reached from the input: no gradient comes back",
                f"its activation is the same on every image, or {CUT}; look at other units",
            )
        if nothing:
            first, *more = (f"{name} {reason}" for name, reason in weak.items())
            others = f", nor of {counted(len(more), 'other')}" if more else ""
            raise CnnlensError(f"{first}: no picture of it is kept{others}", self._more)
        if mistaken := {n: c for part in self.parts for n, c in part.mistaken.items()}:
            few = [f"{name} ({taken})" for name, taken in islice(mistaken.items(), _NAMED)]
            rest = [f"and {len(mistaken) - _NAMED} more"] if len(mistaken) > _NAMED else []
            count = f"{counted(len(mistaken), 'picture')} of a class"
            self.study.voice.note(
                f"the network takes {count} for another: {', '.join(few + rest)}; {self._more}"
            )

    @property
    def _more(self) -> str:
        """Say what may help where a picture comes to nothing."""
        return _MORE_CODES if self.settings.method == "generator" else _MORE


def _worded(which: str, step: PictureStep) -> Words:
    """Word a step's note when it is shown: no step waits for the device."""
    return Words(lambda: f"{which}activation {plain(step.value)}")


def _which(before: int, count: int, total: int) -> str:
    """Say which of the pictures are optimized; empty where all are."""
    if count == total:
        return ""
    last = before + count
    names = f"picture {last}" if count == 1 else f"pictures {before + 1} to {last}"
    return f"{names} of {total}, "
